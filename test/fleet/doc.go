// Package fleet tests pomelod with a real nats-server. It is a module of its own, so that whoever uses pomelod's packages gets nothing of
// nats-server.
package fleet
