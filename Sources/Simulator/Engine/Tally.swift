import Synchronization

/// What happened since the simulator was made, over all its restarts.
final class Tally: Sendable {
    /// By prompt id, some hundred bytes each; it grows with the number of prompts.
    private let counts = Mutex<[String: ComfySimulator.PromptCounts]>([:])
    private let sent = Atomic<Int>(0)

    var prompts: [String: ComfySimulator.PromptCounts] { counts.withLock { $0 } }
    var framesSent: Int { sent.load(ordering: .relaxed) }

    func count(_ id: String, _ change: (inout ComfySimulator.PromptCounts) -> Void) {
        counts.withLock { change(&$0[id, default: ComfySimulator.PromptCounts()]) }
    }

    func addFrames(_ count: Int) { sent.add(count, ordering: .relaxed) }
}
