package agent

import (
	"context"
	"time"

	"github.com/skerry-dev/skerry/fleet"
	"github.com/skerry-dev/skerry/runtime/host"
)

// meterEvery is how often is measured what containers use, where an autoscaler asks for it: as often as it decides.
const meterEvery = 15 * time.Second

// meter measures what the plan asks for. It belongs to the node's loop.
type meter struct {
	host host.Meter
	ids  []string // that are asked for
	at   time.Time
	last map[string]host.Measurement
	used map[string]fleet.Usage // by Podman's ID; replaced whole, never changed
}

// ask says what is measured from now on. It returns when the next measurement is due; the zero time when nothing is.
func (m *meter) ask(ids []string, now time.Time) time.Time {
	m.ids = ids
	if len(ids) == 0 {
		m.at, m.last, m.used = time.Time{}, nil, nil
		return time.Time{}
	}
	if m.at.IsZero() {
		return now
	}
	return m.at.Add(meterEvery)
}

// measure measures when it is due. What a container used is known from its second measurement on.
func (m *meter) measure(ctx context.Context) error {
	now := time.Now()
	if len(m.ids) == 0 || now.Before(m.at.Add(meterEvery)) {
		return nil
	}
	m.at = now
	measured, err := m.host.Measure(ctx, m.ids)
	if err != nil {
		return err
	}
	used := make(map[string]fleet.Usage, len(measured))
	for id, is := range measured {
		was, known := m.last[id]
		if took := is.At.Sub(was.At); known && took > 0 {
			used[id] = fleet.Usage{CPU: int64((is.CPU - was.CPU) * 1000 / took), Memory: is.Memory, At: is.At}
		}
	}
	m.last, m.used = measured, used
	return nil
}
