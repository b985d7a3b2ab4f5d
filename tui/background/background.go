// Package background answers lipgloss' question about the terminal's background
// before bubbletea can ask it.
//
// bubbletea v1 asks the terminal for its background colour while packages are
// initialised, before main runs, and waits five seconds for an answer. Go
// initialises packages in the order of their import paths as soon as their
// imports are ready, and this path sorts before bubbletea's: importing this
// package anywhere in a program settles the answer first. It imports lipgloss
// only and does nothing else. The dashboard draws with its own themes and never
// reads the value that is set here.
package background

import "github.com/charmbracelet/lipgloss"

func init() { lipgloss.SetHasDarkBackground(true) }
