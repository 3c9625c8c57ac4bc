// Package abuse has no code of its own: its tests are hostile clients against a pomelod of its own process. README.md says how.
package abuse
