package act

import "testing"

func TestShort(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{"worker/w1"}, "w1"},
		{[]string{"worker/w1", "worker/w2"}, "w1, w2"},
		{[]string{"worker/w1", "worker/w2", "worker/w3", "worker/w7"}, "w1-w3, w7"},
		{[]string{"job/j1", "job/j2"}, "j1, j2"},
		{[]string{"job/a", "job/b", "job/c", "job/d", "job/e"}, "a, b, c and 2 more"},
		{[]string{"plain"}, "plain"},
	} {
		if got := short(c.in); got != c.want {
			t.Errorf("%v: %q, want %q", c.in, got, c.want)
		}
	}
}
