/// Counts of the event streams, for /metrics.
final class Viewers: Sendable {
    private let open = Counter()
    private let missed = Counter()
    private let sent = Counter()

    /// Streams that are open now.
    var count: Int { open.value }
    /// Previews that were superseded before a viewer read them, over all viewers since the start; those of a viewer that has stopped reading are
    /// counted when it reads on or goes away.
    var droppedPreviews: Int { missed.value }
    var sentBytes: Int { sent.value }

    func opened() { open.add() }
    func closed() { open.add(-1) }
    func missed(previews: Int) { missed.add(previews) }
    func sent(bytes: Int) { sent.add(bytes) }
}
