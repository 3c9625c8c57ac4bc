// Package history keeps on disk what rooms keep, so that it is there again when pomelod is started again. A Store is the channel.Journal of all workers:
// they hand it entries, which it writes in the background.
//
// # The data's way
//
//	workers ─ Keep ─► queue ─► one goroutine ─► a transaction of all that waits ─► bbolt ─► answers, where senders wait for them
//
// No event loop touches a file, or waits for one. The queue is bounded: with Options.Sync, which has senders wait until what they said is on disk, the
// store says that it is Failing before it is full; without, what does not fit is dropped, and counted.
//
// # The files
//
// A bbolt file never shrinks, so there is one for each day (UTC), or more when a day has much to say, and the oldest are removed. In a file,
//
//	log      what was said, and what of it is deleted: number in the file (8 bytes) → entry, appended only
//	members  who was in a room and can prove it: room, key → entry
//	meta     the format, which is another one where something is deleted, and whether the file is open
//
// A value has a checksum (entry.go): bbolt has them for its own two first pages only.
//
// # The beginning
//
// Restore reads logs backwards from the newest entry, until what it has found is old, or all that may be kept. So its time does not depend on how much there
// is. An entry tells the number of the room's message before it, so a hole is found, whatever it comes from: the room's ring begins behind it then.
// Numbers go on far beyond the last one known, as pushes that are not kept have had some: so no number means two things.
//
// A file that cannot be read is set aside, under a name that says so, and what came before it is incomplete.
package history
