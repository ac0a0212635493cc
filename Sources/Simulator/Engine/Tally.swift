import Synchronization

/// What happened since the simulator was made, over all its restarts.
final class Tally: Sendable {
    /// By prompt id, some hundred bytes each; it grows with the number of prompts.
    private let counts = Mutex<[String: ComfySimulator.PromptCounts]>([:])
    private let sent = Atomic<Int>(0)
    private let asked = Atomic<Int>(0)
    private let begun = Atomic<Int>(0)
    private let changes: Changes

    init(changes: Changes) { self.changes = changes }

    var prompts: [String: ComfySimulator.PromptCounts] { counts.withLock { $0 } }
    var framesSent: Int { sent.load(ordering: .relaxed) }
    var nodesBegun: Int { begun.load(ordering: .relaxed) }
    var requests: Int { asked.load(ordering: .relaxed) }

    func count(_ id: String, _ change: (inout ComfySimulator.PromptCounts) -> Void) {
        counts.withLock { change(&$0[id, default: ComfySimulator.PromptCounts()]) }
        changes.note()
    }

    func addRequest() {
        asked.add(1, ordering: .relaxed)
        changes.note()
    }

    func addNode() {
        begun.add(1, ordering: .relaxed)
        changes.note()
    }

    func addFrames(_ count: Int) {
        sent.add(count, ordering: .relaxed)
        changes.note()
    }
}
