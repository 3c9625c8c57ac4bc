// Package codec holds every wire as bytes in, values and bytes out. It has no socket, no clock and no goroutine, so
// each format can be tested against the bytes of the original implementations and fuzzed by itself.
//
// From the outside in: an HTTP head (http.go) may open a WebSocket (websocket.go), whose frames carry Pomelo packages
// (package.go), as a raw TCP stream does; a data package carries a message (message.go); a message's route may be a
// dictionary code (dictionary.go) and its body is JSON (json.go) or pomelo-protobuf (protobuf.go). What goes to many
// is a Push (push.go), encoded once for each Variant that is present.
//
// A socket.io client's message is a string (sio_string.go) in a packet (sio_packet.go, sio_packet09.go), one in a
// WebSocket's text frame, or several in an HTTP body (http_body.go, payload_http.go).
//
// Decoders work in place: what they return aliases their input unless they say otherwise. Encoders append to a
// slice of the caller's.
package codec
