import Synchronization

/// Counts of the event streams, for /metrics.
final class Viewers: Sendable {
    private let openCount = Atomic(0)
    private let missedCount = Atomic(0)

    /// Streams that are open now.
    var count: Int { openCount.load(ordering: .relaxed) }
    /// Previews that were superseded before a viewer read them, over all viewers since the start; those of a viewer that has stopped reading are
    /// counted when it reads on or goes away.
    var droppedPreviews: Int { missedCount.load(ordering: .relaxed) }

    func opened() { openCount.add(1, ordering: .relaxed) }
    func closed() { openCount.subtract(1, ordering: .relaxed) }
    func missed(previews: Int) { missedCount.add(previews, ordering: .relaxed) }
}
