import Synchronization

/// When a job came how far, by the clock that nobody sets; beside the job's dates, for what the dates cannot tell: who spent the
/// time, and since when it stands still. Of this process only: it begins anew with a restored job.
package final class JobTimeline: Sendable {
    package struct Marks: Sendable {
        package var submitted: ContinuousClock.Instant
        /// A worker has it, newest time.
        package var taken: ContinuousClock.Instant?
        /// The address of the ComfyUI it was given to last.
        package var endpoint: String?
        /// ComfyUI has it.
        package var delivered: ContinuousClock.Instant?
        /// The prompt, not the bridge's, that runs before it there, and since when it was seen.
        package var behind: (promptID: String, since: ContinuousClock.Instant)?
        /// ComfyUI began to run it, first time.
        package var started: ContinuousClock.Instant?
        /// The same, newest time; nil while that one has it waiting.
        package var begun: ContinuousClock.Instant?
        /// ComfyUI's last word on it, newest time.
        package var executed: ContinuousClock.Instant?
        /// The outputs of that run are known.
        package var collected: ContinuousClock.Instant?
        package var ended: ContinuousClock.Instant?
        /// The node that began last.
        package var node: NodeEvent?
        package var nodeBegan: ContinuousClock.Instant?
        /// How often it went back into the queue, since it could not be handed over or was lost, and why the last time.
        package var returns = 0
        package var returnReason: String?

        package init(submitted: ContinuousClock.Instant) { self.submitted = submitted }

        fileprivate mutating func forgetRun() {
            (delivered, begun, executed, collected) = (nil, nil, nil, nil)
            behind = nil
            (node, nodeBegan) = (nil, nil)
        }
    }

    private let state = Mutex(Marks(submitted: .now))

    package var marks: Marks { state.withLock { $0 } }

    package func taken(for endpoint: String) {
        state.withLock { marks in
            marks.taken = .now
            marks.endpoint = endpoint
            marks.forgetRun()
        }
    }

    package func delivered() { state.withLock { $0.delivered = .now } }
    package func waits(behind head: (promptID: String, since: ContinuousClock.Instant)?) { state.withLock { $0.behind = head } }
    package func started() {
        state.withLock { marks in
            let now = ContinuousClock.now
            marks.begun = now
            marks.started = marks.started ?? now
        }
    }

    /// Only the beginning of a node is of interest.
    package func note(_ event: JobEvent) {
        guard case .node(let node) = event, node.state == .running else { return }
        state.withLock { marks in
            (marks.node, marks.nodeBegan) = (node, .now)
        }
    }

    package func executed() { state.withLock { $0.executed = .now } }
    package func collected() { state.withLock { $0.collected = .now } }
    package func ended() { state.withLock { $0.ended = $0.ended ?? .now } }

    package func returned(because reason: String) {
        state.withLock { marks in
            marks.returns += 1
            marks.returnReason = reason
            marks.taken = nil
            marks.forgetRun()
        }
    }
}
