package decoded

// Len is how many values are kept now, for tests of what a peer can make of them.
func (v *Values[T]) Len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.all)
}
