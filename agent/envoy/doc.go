// Package envoy runs the Envoy process of the agent: it finds the binary, starts it, waits until it is ready, drains it, stops
// it, and says why it ended. It implements contract agent.md §3.
//
// A Process goes through the states Initial, Running, Draining and at the end Stopped, when its end was asked for, or Exited,
// when it was not. It is never restarted: whoever runs the agent restarts both.
package envoy
