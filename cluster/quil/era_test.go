package quil

import (
	"strings"
	"testing"
)

func TestErasAreRead(t *testing.T) {
	all, err := decodeEras(erasYML)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 6 {
		t.Fatalf("%d eras", len(all))
	}
	for _, e := range all {
		if strings.Join([]string{e.First.String()}, "") != string(e.ID) {
			t.Errorf("era %s begins with version %s: an era is called by its first version", e.ID, e.First)
		}
	}
}
