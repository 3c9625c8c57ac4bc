package router

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pomelod/pomelod/channel"
)

// Limit bounds how often each session may call one of the App's own routes: perSecond calls in the long run, burst at once. A
// request beyond it is answered {"code":500,"reason":"route_rate"} and a notify is dropped; neither reaches filters or
// handler. The chat application's routes have -send-rate instead. Panics when the route has a limit already.
func (a *App) Limit(route string, perSecond float64, burst int) {
	if a.rates == nil {
		a.rates = make(map[string]*routeRate)
	}
	if _, twice := a.rates[route]; twice {
		panic(fmt.Sprintf("router: %q is limited twice", route))
	}
	a.rates[route] = &routeRate{Rate: Rate{perSecond, burst}, index: len(a.rates)}
}

// checkRates refuses limits of routes that are not the App's, and rates that cannot be kept.
func (a *App) checkRates() error {
	for route, r := range a.rates {
		if _, own := a.handlers[route]; !own {
			return fmt.Errorf("App.Limit: %q is no route of the App's", route)
		}
		if r.Rate == (Rate{}) {
			return fmt.Errorf("App.Limit: %q is limited to nothing; give a rate and a burst above 0", route)
		}
		if err := r.check("App.Limit: " + route); err != nil {
			return err
		}
	}
	return nil
}

// SetSlowMode has every member of room wait for at least d between two messages, and newcomers before their first; a
// message that comes too soon is answered {"code":500,"reason":"slow_mode"}. 0 turns it off, and a negative d gives the room
// what -slow-mode says. It holds for the name, whether anybody is in the room or not, until the process ends. At most a day, in
// milliseconds.
func (a *App) SetSlowMode(room string, d time.Duration) error {
	node := a.node.Load()
	if node == nil {
		return ErrNotRunning
	}
	if d > channel.MaxSlow {
		return fmt.Errorf("slow mode of %v: must be at most %v", d, channel.MaxSlow)
	}
	ms := int64(-1)
	if d >= 0 {
		ms = int64((d + time.Millisecond - 1) / time.Millisecond)
	}
	return node.request(channel.Request{Op: channel.OpSlow, Room: room, Content: strconv.AppendInt(nil, ms, 10)})
}

// sumLimited is what all loops and workers have refused, by reason.
func (s *Snapshot) sumLimited() map[string]uint64 {
	sum := make(map[string]uint64, len(limitNames)+len(channel.ReasonNames))
	for i := range s.Loops {
		for reason, n := range s.Loops[i].limited {
			sum[limitNames[reason]] += n
		}
	}
	for i := range s.Workers {
		for reason, n := range s.Workers[i].Limited {
			sum[channel.ReasonNames[reason]] += n
		}
	}
	return sum
}
