import ComfyUI
import OrderedCollections
import OrderedJSON
import Testing

@testable import Workers
@testable import Workflow

/// What a run knows when ComfyUI does not have its prompt any more, or has it and messages are missing.
@Suite struct LostExecutionTests {
    enum Step: Sendable {
        case start, node, success, failure, ended
        case touchLost, waiting, running, finished
    }

    private func run(_ steps: [Step], _ classType: String = "SaveImage") throws -> Execution {
        let graph: JSON = ["1": ["class_type": .string(classType), "inputs": [:]]]
        var run = Execution(workflow: try Workflow(checking: graph), outputNodes: ["1"])
        for step in steps {
            switch step {
            case .start: _ = run.received(.executionStart(promptID: "p", timestamp: nil))
            case .node: _ = run.received(.executing(promptID: "p", node: "1", displayNode: nil))
            case .success: _ = run.received(.executionSuccess(promptID: "p", timestamp: nil))
            case .failure: _ = run.received(.executionError(ExecutionError(promptID: "p", message: "m")))
            case .ended: _ = run.received(.executionEnded(promptID: "p"))
            case .touchLost: run.lostTouch()
            case .waiting: _ = run.reconciled(.waiting(behind: "q"))
            case .running: _ = run.reconciled(.running)
            case .finished: _ = run.reconciled(.finished(outputs: [], .succeeded))
            }
        }
        return run
    }

    @Test("What it means that ComfyUI does not have the prompt", arguments: [
        ([], .waiting), ([.touchLost], .waiting), ([.touchLost, .waiting], .waiting), ([.start], .running), ([.start, .node], .running), ([.running], .running),
        ([.start, .touchLost], .killed), ([.start, .node, .touchLost], .killed),
        // It was still there after the break: what takes it away later is something else.
        ([.start, .touchLost, .running], .running), ([.touchLost, .running], .running), ([.start, .touchLost, .running, .touchLost], .killed),
        ([.start, .success, .touchLost], .killed),
    ] as [([Step], AttemptEnd.Loss)])
    func losses(_ steps: [Step], _ expected: AttemptEnd.Loss) throws {
        #expect(try run(steps).lossWhenAbsent == expected)
    }

    @Test("What only the socket carries is missing when messages of the run itself are", arguments: [
        ([.start, .node, .success, .ended], false), ([.touchLost, .waiting, .start, .node, .success, .finished], false), ([.start, .touchLost, .finished], true),
        ([.start, .touchLost, .running, .finished], true), ([.touchLost, .running, .success, .finished], true), ([.touchLost, .finished], true),
        // The socket said nothing at all.
        ([.finished], true), ([.start, .finished], true), ([.start, .node, .success, .finished], false),
        // An end without a beginning: of this run, or late of the one before.
        ([.success, .ended, .finished], true), ([.success, .start, .node, .success, .finished], false),
        // The books knew first that it runs.
        ([.running, .start, .node, .success, .finished], false), ([.running, .node, .success, .finished], true), ([.running, .success, .finished], true),
    ] as [([Step], Bool)])
    func results(_ steps: [Step], _ expected: Bool) throws {
        #expect(try run(steps, "SaveImageWebsocket").lacksResults == expected)
        #expect(try run(steps, "SaveImage").lacksResults == false)
    }

    @Test("A prompt that is gone after ComfyUI said how it went needs no other witness, unless messages are missing", arguments: [
        ([.start, .success], true), ([.start, .failure], true), ([.start], false), ([], false), ([.success], false), ([.failure], false),
        ([.start, .touchLost, .success], false), ([.start, .success, .touchLost], false), ([.running, .success], false), ([.running, .start, .success], true),
    ] as [([Step], Bool)])
    func absent(_ steps: [Step], _ isEnd: Bool) throws {
        var run = try run(steps)
        let effects = run.reconciled(.absent)
        #expect(effects.contains { if case .end = $0 { true } else { false } } == isEnd)
        // After the end nothing follows.
        if isEnd { #expect(run.received(.executionSuccess(promptID: "p", timestamp: nil)).isEmpty) }
    }
}
