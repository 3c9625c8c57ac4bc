package cluster

// lane is which of the two streams of a link a batch is of.
type lane uint8

const (
	laneLive lane = iota
	laneBulk      // snapshots, and what has to stay behind them
	lanes
)
