package git

import "time"

// longestWait is how far apart tries get when a server stays away; a source that is polled less often than
// that keeps its own interval.
const longestWait = 5 * time.Minute

// Next is how long to wait before the next Fetch. After a good one (failures 0) it is interval, give or take
// a tenth, so that many agents do not ask in step. After that many failures in a row it is at most
// interval, 2×interval, 4×interval and so on up to five minutes (or interval, where that is longer), less up
// to a fifth. Jitter is a number in [0,1) that the caller drew. An interval below a second counts as one.
func Next(interval time.Duration, failures int, jitter float64) time.Duration {
	interval = max(interval, time.Second)
	if failures <= 0 {
		return scale(interval, 0.9+0.2*jitter)
	}
	limit := max(interval, longestWait)
	wait := interval
	for i := 1; i < failures && wait < limit; i++ {
		wait *= 2
	}
	return scale(min(wait, limit), 0.8+0.2*jitter)
}

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }
