// Package quil is the adapter for clusters of Quilibrium nodes: one control process (core 0) and indexed data workers
// (core 1 and up) on one or many machines under one peer identity.
//
// The node was rewritten several times; what is right for one version is wrong for the next. So nothing here is true of
// "Quilibrium": every rule belongs to an Era, the eras are data (eras.yml), and each rule there says where it is known
// from. A rule whose Value is nil is not known, and nothing is put in its place.
//
// What the package does, per era: it tells the arguments of each process (Commands), the address lists that all copies of
// the node's config.yml must share (Addresses), rewrites a config.yml so that only the manager's keys change (Config),
// tells which files a machine needs and which must never reach it (KeyFiles), which ports it must open and for whom
// (Firewall), and which mistakes a config has against a plan (Check).
//
// All functions are pure: they read no file, start no process, open no connection, and may be called from any goroutine.
// Bytes of a config.yml are hostile until parsed and secret afterwards: they live in a Text, which does not print.
// The facts come from public documentation, public tools and observation of behaviour; no line of the node is used.
package quil
