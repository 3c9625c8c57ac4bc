package admin

import "github.com/prometheus/client_golang/prometheus"

// Disk is what rooms keep on disk: counters since the start, then gauges.
type Disk struct {
	Entries, Commits, Failures uint64
	Dropped                    uint64  // entries that were not written
	Seconds                    float64 // for which commits have taken
	Bytes, Queued              int64   // of files, and of what waits to be written
	Failing                    bool    // the last commit failed
}

var (
	diskEntries  = desc("history_disk_entries_total", "Messages, and members with a secret, written to -history-dir.")
	diskCommits  = desc("history_disk_commits_total", "Commits to -history-dir, each of all that waited.")
	diskSeconds  = desc("history_disk_commit_seconds_total", "Time for which these have taken.")
	diskFailures = desc("history_disk_failures_total", "Commits that failed; each was tried again after a second.")
	diskDropped  = desc("history_disk_dropped_total", "Messages and members that were not written, as too much waited.")
	diskBytes    = desc("history_disk_bytes", "Size of the files in -history-dir.")
	diskQueued   = desc("history_disk_queued_bytes", "What waits to be written to -history-dir.")
	diskFailing  = desc("history_disk_failing", "1 when the last commit to -history-dir failed.")
)

// collect puts the figures; on nil there are none.
func (h *Disk) collect(put func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string)) {
	if h == nil {
		return
	}
	failing := 0.0
	if h.Failing {
		failing = 1
	}
	put(diskEntries, prometheus.CounterValue, float64(h.Entries))
	put(diskCommits, prometheus.CounterValue, float64(h.Commits))
	put(diskSeconds, prometheus.CounterValue, h.Seconds)
	put(diskFailures, prometheus.CounterValue, float64(h.Failures))
	put(diskDropped, prometheus.CounterValue, float64(h.Dropped))
	put(diskBytes, prometheus.GaugeValue, float64(h.Bytes))
	put(diskQueued, prometheus.GaugeValue, float64(h.Queued))
	put(diskFailing, prometheus.GaugeValue, failing)
}
