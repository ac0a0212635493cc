import ComfyUI
import NIOCore
import OrderedCollections
import OrderedJSON

@testable import Jobs
@testable import Workers
@testable import Workflow

/// An attempt that is played by hand: what happens in short words, and what it wants in short words. No clock, no ComfyUI.
struct AttemptScript: Sendable {
    /// What happens, in the attempt's alphabet.
    enum Happening: Hashable, Sendable {
        /// Only time: so many seconds.
        case pass(Int)
        case begin
        // What the socket brings. `queued` and `left` are the queue's length, 1 and 0; `picture` is a result that only the socket carries.
        case queued, left, start, node, picture, output, success, failure, interrupted, ended
        // How the submit went. `partly`: outputs were left out.
        case accepted, partly, refused, notDelivered, notReached, found, unknown
        // What the books say.
        case waiting, behindOwn, behindStranger, running, runningUnheard, succeeded, failed, wasInterrupted, absent, unreadable
        // They could not be asked; ComfyUI may be away for long.
        case noVerdict, noVerdictAway
        case lostTouch, reconnected
        /// Away for long: callers wait on; another ComfyUI can run the job; nobody but callers wants it.
        case away, awayElsewhere, awayAlone
        case silent, overtaken, endDue, deadline, cancel
        // Another attempt found ComfyUI stuck: in a prompt of the bridge's, or in a stranger's.
        case stuck, stuckBehind
    }

    static let silence = Duration.seconds(10)
    static let timeLimit = Duration.seconds(60)

    private(set) var attempt: Attempt
    private(set) var now: ContinuousClock.Instant
    private var lastHeard: ContinuousClock.Instant

    /// - Parameter classType: of the workflow's only node, which is an output.
    init(_ entry: Attempt.Entry = .submit, classType: String = "SaveImage", allowsPartial: Bool = false, at now: ContinuousClock.Instant = .now) throws {
        let graph: JSON = ["1": ["class_type": .string(classType), "inputs": [:]]]
        let terms = Attempt.Terms(
            promptID: "p", entry: entry, timeLimit: Self.timeLimit, allowsPartial: allowsPartial, silence: Self.silence, endLimit: .milliseconds(500))
        attempt = Attempt(
            terms, execution: Execution(workflow: try Workflow(checking: graph), outputNodes: ["1"]),
            pulse: Pulse.Limits(start: .seconds(60), work: .seconds(1800)))
        (self.now, lastHeard) = (now, now)
    }

    mutating func play(_ happening: Happening) -> [Attempt.Effect] {
        if case .pass(let seconds) = happening {
            now += .seconds(seconds)
            return []
        }
        if happening.isHeard { lastHeard = now }
        return attempt.receive(input(happening), at: now)
    }

    private func input(_ happening: Happening) -> Attempt.Input {
        switch happening {
        case .pass, .begin: .begin
        case .queued: .message(.status(queueRemaining: 1, sid: nil))
        case .left: .message(.status(queueRemaining: 0, sid: nil))
        case .start: .message(.executionStart(promptID: "p", timestamp: nil))
        case .node: .message(.executing(promptID: "p", node: "1", displayNode: "1"))
        case .picture: .binary(Self.picture)
        case .output: .message(.executed(promptID: "p", node: "1", displayNode: "1", output: Self.output))
        case .success: .message(.executionSuccess(promptID: "p", timestamp: nil))
        case .failure: .message(.executionError(Self.failure))
        case .interrupted: .message(.executionInterrupted(promptID: "p", nodeID: "1", nodeType: "SaveImage", executed: [], timestamp: nil))
        case .ended: .message(.executionEnded(promptID: "p"))
        case .accepted: .submitted(.accepted(partialFaults: []))
        case .partly: .submitted(.accepted(partialFaults: [WorkflowFault(node: "1", reason: "r", classType: "SaveImage", message: "m")]))
        case .refused: .submitted(.refused(.tooLarge))
        case .notDelivered: .submitted(.notDelivered(reason: "r"))
        case .notReached: .submitted(.notReached)
        case .found: .submitted(.found(Job.Told()))
        case .unknown: .submitted(.unknown)
        case .waiting: found(.waiting(behind: nil))
        case .behindOwn: found(.waiting(behind: "own"), isBehindOwn: true)
        case .behindStranger: found(.waiting(behind: "stranger"))
        case .running: found(.running)
        case .runningUnheard: found(.running, isRegistrationDoubtful: true)
        case .succeeded: found(.finished(outputs: [Execution.NodeOutput(node: "1", part: "1", output: Self.output, isReused: false)], .succeeded))
        case .failed: found(.finished(outputs: [], .failed(JobError(Self.failure))))
        case .wasInterrupted: found(.finished(outputs: [], .interrupted))
        case .absent: found(.absent)
        case .unreadable: found(.unreadable)
        case .noVerdict: .noVerdict(nil)
        case .noVerdictAway: .noVerdict(Self.absence())
        case .lostTouch: .lostTouch(reason: "r")
        case .reconnected: .reconnected
        case .away: .away(Self.absence())
        case .awayElsewhere: .away(Self.absence(canRunElsewhere: true))
        case .awayAlone: .away(Self.absence(failsJob: true))
        case .silent: .silent
        case .overtaken: .overtaken
        case .endDue: .endDue(after: .milliseconds(500))
        case .deadline: .deadline
        case .cancel: .cancel
        case .stuck: .stuck(.stuck("s", promptID: "other"))
        case .stuckBehind: .stuck(.behind(promptID: "stranger", since: now))
        }
    }

    private func found(_ verdict: Reconciliation, isBehindOwn: Bool = false, isRegistrationDoubtful: Bool = false) -> Attempt.Input {
        .verdict(Attempt.Finding(verdict: verdict, silence: now - lastHeard, isBehindOwn: isBehindOwn, isRegistrationDoubtful: isRegistrationDoubtful))
    }

    private static func absence(canRunElsewhere: Bool = false, failsJob: Bool = false) -> Attempt.Absence {
        Attempt.Absence(reason: "r", canRunElsewhere: canRunElsewhere, failsJob: failsJob)
    }

    private static let output: JSONObject = ["images": [["filename": "a.png", "type": "output", "subfolder": ""]]]
    private static let failure = ExecutionError(promptID: "p", message: "m")
    private static let picture = ComfyBinaryMessage.preview(PreviewFrame(metadata: nil, contentType: "image/png", image: ByteBuffer(string: "p")))
}

extension AttemptScript.Happening {
    /// It is a message of the prompt.
    var isHeard: Bool {
        switch self {
        case .start, .node, .picture, .output, .success, .failure, .interrupted, .ended: true
        default: false
        }
    }
}

extension Attempt.Effect {
    /// In one word or a few; nil for what only tells viewers how far the run is.
    var words: String? {
        switch self {
        case .submit: "submit"
        case .inquire(let reason): "ask (\(reason.rawValue))"
        case .takeBack: "take back"
        case .withdraw: "withdraw"
        case .reconnect: "reconnect"
        case .wait(let duration, .endDue): "await end \(duration)"
        case .wait(let duration, .deadline): "limit \(duration)"
        case .wait: "wait"
        case .watchSilence: "watch"
        case .delivered: "delivered"
        case .adopted: "adopted"
        case .started: "started"
        case .publish(.log): "log"
        case .publish, .preview, .waits: nil
        case .collect: "collect"
        case .capture: "capture"
        case .executed: "executed"
        case .noteAbsence: "away"
        case .noteReturn: "back"
        case .turnAwayCallers: "turn away"
        case .fail(let error): "fail \(error.code.rawValue)"
        case .doubt: "doubt"
        case .end(let end): "end: \(end.word)"
        }
    }
}

extension AttemptEnd {
    var word: String {
        switch self {
        case .ended(.succeeded): "succeeded"
        case .ended(.failed): "failed"
        case .ended(.interrupted): "interrupted"
        case .refused: "refused"
        case .takenBack: "taken back"
        case .notDelivered: "not delivered"
        case .notReached: "not reached"
        case .lost(let loss): "lost, \(loss)"
        case .stuck(_, let wasRunning): wasRunning ? "stuck in it" : "stuck"
        case .behind: "behind"
        case .stopped: "stopped"
        }
    }
}
