package fleet

// Electorate is who says which node has an address at a time, and how fast. Of two that follow one another the voters differ by one at most, and
// the next but one comes only when a majority of those in between go by that: so two majorities always have a node in common.
type Electorate struct {
	Epoch  uint64     `json:"epoch"` // grows by one with each
	Voters []NodeName `json:"voters,omitempty"`
	// Fast has addresses move within a third of a second and not half of one, at the price of more messages and of less patience with busy
	// nodes.
	Fast bool `json:"fast,omitempty"`
}
