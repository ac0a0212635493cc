import ComfyUI
import OrderedJSON
import Testing

@Suite struct ComfyMessageTests {
    /// A known type that cannot be read is an error that names type and fault; never `unknown`.
    @Test(arguments: [
        (#"{"type": "status", "data": {"status": {"exec_info": {}}}}"#, "status", "queue_remaining"),
        (#"{"type": "status", "data": null}"#, "status", "queue_remaining"),
        (#"{"type": "execution_start", "data": {"timestamp": 1}}"#, "execution_start", "prompt_id"),
        (#"{"type": "execution_cached", "data": {"prompt_id": "a", "nodes": 1}}"#, "execution_cached", "nodes is a number"),
        (#"{"type": "executing", "data": {"prompt_id": "a"}}"#, "executing", "node is missing"),
        (#"{"type": "executing", "data": {"node": [], "prompt_id": "a"}}"#, "executing", "node is a list"),
        (#"{"type": "executing"}"#, "executing", "node is missing"),
        (#"{"type": "progress", "data": {"value": 1, "prompt_id": "a", "node": "1"}}"#, "progress", "max is missing"),
        (#"{"type": "progress", "data": {"value": "x", "max": 2}}"#, "progress", "value is a string"),
        (#"{"type": "progress_state", "data": {"prompt_id": "a"}}"#, "progress_state", "nodes is missing"),
        (#"{"type": "progress_state", "data": {"prompt_id": "a", "nodes": {"1": {"value": 0, "max": 1}}}}"#, "progress_state", "state"),
        (#"{"type": "executed", "data": {"prompt_id": "a", "node": "1", "output": 5}}"#, "executed", "output is a number"),
        (#"{"type": "execution_success", "data": {}}"#, "execution_success", "prompt_id"),
        (#"{"type": "execution_error", "data": {"prompt_id": "a"}}"#, "execution_error", "exception_type"),
        (#"{"type": "execution_interrupted", "data": {}}"#, "execution_interrupted", "prompt_id"),
    ])
    func knownTypesOfAnotherShapeAreErrors(_ text: String, type: String, fault: String) {
        let error = #expect(throws: ComfyMessageError.self) { try ComfyMessage(parsing: text) }
        #expect(error?.type == type)
        #expect(error?.reason.contains(fault) == true)
        #expect(error?.payloadStart == text)
    }

    @Test(arguments: ["", "{", "[]", "1", #"{"data": {}}"#, #"{"type": 5}"#, #"{"type": null, "data": {}}"#])
    func whatIsNoMessageIsAnError(_ text: String) {
        let error = #expect(throws: ComfyMessageError.self) { try ComfyMessage(parsing: text) }
        #expect(error?.type == nil)
    }

    @Test func longPayloadsAreCutInErrors() {
        let text = #"{"type": "status", "data": ""# + String(repeating: "x", count: 5000) + #""}"#
        let error = #expect(throws: ComfyMessageError.self) { try ComfyMessage(parsing: text) }
        #expect(error?.payloadStart.utf8.count == 200)
    }

    @Test(arguments: [
        (#"{"type": "executing", "data": {"node": null, "prompt_id": "p"}}"#, ComfyMessage.executionEnded(promptID: "p")),
        (#"{"type": "executing", "data": {"node": "5"}}"#, .executingBare(node: "5")),
        (#"{"type": "executing", "data": {"node": null}}"#, .executingBare(node: nil)),
        (#"{"type": "executing", "data": {"node": 5, "prompt_id": "p"}}"#, .executing(promptID: "p", node: "5", displayNode: nil)),
        (
            #"{"type": "executing", "data": {"node": "5.0.0.1", "display_node": "5", "prompt_id": "p"}}"#,
            .executing(promptID: "p", node: "5.0.0.1", displayNode: "5")
        ),
        (
            #"{"type": "executed", "data": {"node": "5", "display_node": "5", "output": null, "prompt_id": "p"}}"#,
            .executed(promptID: "p", node: "5", displayNode: "5", output: nil)
        ),
        (#"{"type": "progress", "data": {"value": 1, "max": 2.5}}"#, .progress(promptID: nil, node: nil, value: 1, maximum: 2.5)),
        (#"{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 3}}}}"#, .status(queueRemaining: 3, sid: nil)),
        (#"{"type": "pack.monitor", "data": {"cpu": NaN}}"#, .unknown(type: "pack.monitor", raw: #"{"type": "pack.monitor", "data": {"cpu": NaN}}"#)),
        (
            #"{"type": "pack.step", "data": {"prompt_id": "p"}}"#,
            .unknown(type: "pack.step", raw: #"{"type": "pack.step", "data": {"prompt_id": "p"}}"#, promptID: "p")
        ),
        (#"{"type": "pack.list", "data": ["prompt_id"]}"#, .unknown(type: "pack.list", raw: #"{"type": "pack.list", "data": ["prompt_id"]}"#)),
    ])
    func variantsOfATypeAreTold(_ text: String, expected: ComfyMessage) throws {
        #expect(try ComfyMessage(parsing: text) == expected)
    }

    /// Newer than 0.33: what a node does besides its steps.
    @Test(arguments: [(#""loading""#, "loading"), ("null", nil), ("5", nil)] as [(String, String?)])
    func activities(_ value: String, _ expected: String?) throws {
        let text = #"{"type": "progress_state", "data": {"prompt_id": "p", "nodes": {"1": {"value": 0, "max": 1, "state": "running", "activity": VALUE}}}}"#
        guard case .progressState(_, let nodes) = try ComfyMessage(parsing: text.replacing("VALUE", with: value)) else {
            Issue.record("no progress")
            return
        }
        #expect(nodes.first?.activity == expected)
    }

    /// Python writes NaN; a loss of NaN must not lose the message.
    @Test func numbersThatAreNoneAreTaken() throws {
        let text = #"{"type": "progress", "data": {"value": NaN, "max": Infinity}}"#
        guard case .progress(_, _, let value, let maximum) = try ComfyMessage(parsing: text) else {
            Issue.record("no progress")
            return
        }
        #expect(value.isNaN && maximum == .infinity)
    }
}
