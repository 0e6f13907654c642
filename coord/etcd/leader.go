package etcd

import "github.com/skerry-dev/skerry/fleet"

// Leader is who leads, as far as is known here; empty while nobody does, or etcd does not answer.
func (s *Store) Leader() fleet.NodeName {
	if s.Away() != "" {
		return ""
	}
	return fleet.NodeName(s.mirror.value(leaderArea))
}

// value is a key's, as text; empty when it is not there.
func (m *mirror) value(area string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.areas[area] {
		return string(e.value)
	}
	return ""
}

// SetEndpoints says where etcd answers from now on.
func (s *Store) SetEndpoints(endpoints []string) { s.client.SetEndpoints(endpoints...) }
