// Package wizard leads through an action in a fixed list of steps: what is
// meant, how long and why, what it does, review and consent, and then the act
// as it runs. It decides nothing: what an action does, whom it leaves out and how
// much consent it needs is what the engine's plan says.
//
// A Wizard is an overlay of the screen (page.Overlay): a plain struct that
// belongs to the screen's goroutine, starts nothing, never blocks and reaches
// the engine only through Host.Call.
//
// What it promises. Engine.Do is asked for only from the review step, only for a
// plan that was drawn there and is not older than half a minute, only with the
// consent that this plan wants, and never while the screen may not act. A phrase
// has to be typed, pasting it is refused. A plan that has become another one is
// shown and asked about again. When the answer to a request is lost, asking again
// uses the same idempotency key, so it is done once. shift+tab goes back from
// every step whatever was typed; esc leaves, with a question if something was
// typed. Leaving never ends an act that was taken.
package wizard
