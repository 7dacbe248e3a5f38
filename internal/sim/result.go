package sim

// Result is what a run, or many, came to.
type Result struct {
	Seeds      int            `json:"seeds"`
	Events     int            `json:"events"`
	Crashes    int            `json:"crashes"`
	Reorgs     int            `json:"reorgs"`
	Faults     map[string]int `json:"faults"`
	Violations []string       `json:"violations"`
}

// Add adds another run.
func (r *Result) Add(o Result) {
	r.Seeds += o.Seeds
	r.Events += o.Events
	r.Crashes += o.Crashes
	r.Reorgs += o.Reorgs
	if r.Faults == nil {
		r.Faults = map[string]int{}
	}
	for k, n := range o.Faults {
		r.Faults[k] += n
	}
	r.Violations = append(r.Violations, o.Violations...)
}
