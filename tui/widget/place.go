package widget

// Place scrolls so that the cursor's row stands y rows below the first visible one,
// as far as there are rows.
func (t *Table) Place(y int) { t.top = max(t.at-y, 0) }
