package admin

// Disk is what rooms keep on disk: counters since the start, then gauges.
type Disk struct {
	Entries, Commits, Failures uint64
	Dropped                    uint64  // entries that were not written
	Seconds                    float64 // for which commits have taken
	Bytes, Queued              int64   // of files, and of what waits to be written
	Failing                    bool    // the last commit failed
}

var diskMetrics = []metric[Disk]{
	counter("history_disk_entries_total", "Messages, and members with a secret, written to -history-dir.", "", func(d *Disk) uint64 { return d.Entries }),
	counter("history_disk_commits_total", "Commits to -history-dir, each of all that waited.", "", func(d *Disk) uint64 { return d.Commits }),
	counter("history_disk_commit_seconds_total", "Time for which these have taken.", "", func(d *Disk) float64 { return d.Seconds }),
	counter("history_disk_failures_total", "Commits that failed; each was tried again after a second.", "", func(d *Disk) uint64 { return d.Failures }),
	counter("history_disk_dropped_total", "Messages and members that were not written, as too much waited.", "", func(d *Disk) uint64 { return d.Dropped }),
	gauge("history_disk_bytes", "Size of the files in -history-dir.", "", func(d *Disk) int64 { return d.Bytes }),
	gauge("history_disk_queued_bytes", "What waits to be written to -history-dir.", "", func(d *Disk) int64 { return d.Queued }),
	truth("history_disk_failing", "1 when the last commit to -history-dir failed.", "", func(d *Disk) bool { return d.Failing }),
}
