/// Counts of the event streams, for /metrics.
package final class Viewers: Sendable {
    private let open = Counter()
    private let missed = Counter()
    private let sent = Counter()

    /// Streams that are open now.
    package var count: Int { open.value }
    /// Previews that were superseded before a viewer read them, over all viewers since the start; those of a viewer that has stopped reading are
    /// counted when it reads on or goes away.
    package var droppedPreviews: Int { missed.value }
    package var sentBytes: Int { sent.value }

    package func opened() { open.add() }
    package func closed() { open.add(-1) }
    package func missed(previews: Int) { missed.add(previews) }
    package func sent(bytes: Int) { sent.add(bytes) }
}
