package admin

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The dashboard of deploy/grafana.json asks for metrics that there are, by labels that they have, and each panel has a place of its own.
func TestGrafana(t *testing.T) {
	text, err := os.ReadFile("../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	labels := make(map[string][]string) // by metric
	for _, m := range Metrics() {
		labels[m.Name] = m.Labels
	}
	own := []string{"instance", "job"} // of Prometheus
	check := func(what, expr, legend string) {
		names := regexp.MustCompile(`pomelod_[a-z_]+`).FindAllString(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing: %s", what, expr)
		}
		for _, name := range names {
			has, is := labels[name]
			if !is {
				t.Errorf("%s asks for %s, which there is not", what, name)
			}
			for _, by := range regexp.MustCompile(`by \(([a-z, ]+)\)|\{\{([a-z]+)\}\}`).FindAllStringSubmatch(expr+legend, -1) {
				for _, label := range strings.Split(by[1]+by[2], ", ") {
					if !slices.Contains(has, label) && !slices.Contains(own, label) {
						t.Errorf("%s: %s has no label %s", what, name, label)
					}
				}
			}
		}
	}
	taken := make(map[[2]int]string)
	ids := make(map[int]bool)
	for _, p := range board.Panels {
		if len(p.Targets) == 0 || ids[p.ID] {
			t.Errorf("%s shows nothing, or has the id of another panel", p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			check(p.Title, target.Expr, target.LegendFormat)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %s, or beyond the border", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, v := range board.Templating.List {
		if strings.Contains(v.Query, "label_values") {
			check(v.Name, v.Query, "")
		}
	}
}
