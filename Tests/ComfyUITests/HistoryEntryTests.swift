import ComfyUI
import OrderedJSON
import Testing

/// Outcomes of entries that are not among the recordings.
@Suite struct HistoryEntryTests {
    private static func entry(_ status: JSON) -> JSON { ["prompt": [4, "p", [:], [:], []], "outputs": [:], "status": status] }

    private static let error: JSON = [
        "execution_error", ["prompt_id": "p", "node_id": "3", "node_type": "X", "exception_type": "ValueError", "exception_message": "no"],
    ]
    private static let blocked: JSON = ["execution_error", ["prompt_id": "p", "node_id": "3", "exception_type": "ExecutionBlocked"]]
    private static let interrupted: JSON = ["execution_interrupted", ["prompt_id": "p"]]
    private static let failure = ExecutionError(promptID: "p", nodeID: "3", nodeType: "X", message: "no", exceptionType: "ValueError")

    @Test(arguments: [
        (entry(["status_str": "success", "completed": true, "messages": []]), HistoryEntry.Outcome.succeeded),
        (entry(["status_str": "success", "completed": true, "messages": [blocked]]), .succeeded),
        (entry(["status_str": "error", "completed": false, "messages": [error]]), .failed(failure)),
        (entry(["status_str": "error", "completed": false, "messages": [error, blocked]]), .failed(failure)),
        (entry(["status_str": "error", "completed": false, "messages": [blocked, interrupted]]), .interrupted),
        (entry(["status_str": "odd", "completed": true, "messages": []]), .succeeded),
        (entry(["status_str": "odd", "messages": [interrupted]]), .interrupted),
        (entry(nil), .succeeded),
        (["outputs": [:]] as JSON, .succeeded),
    ])
    func outcomes(_ json: JSON, expected: HistoryEntry.Outcome) throws {
        #expect(try #require(HistoryEntry(promptID: "p", json)).outcome == expected)
    }

    @Test func aFailureWithoutWordsIsStillOne() throws {
        let entry = try #require(HistoryEntry(promptID: "p", Self.entry(["status_str": "error", "completed": false, "messages": []])))
        guard case .failed(let error) = entry.outcome else {
            Issue.record("\(entry.outcome)")
            return
        }
        #expect(error.promptID == "p" && !error.exceptionMessage.isEmpty && !error.isBlocked)
    }

    @Test func messagesThatCannotBeReadAreKept() throws {
        let json = Self.entry(["status_str": "success", "completed": true, "messages": [["execution_start", ["x": 1]], ["new_kind", [:]], 5]])
        let entry = try #require(HistoryEntry(promptID: "p", json))
        #expect(entry.messages == [.unknown(type: "execution_start", raw: #"{"x":1}"#), .unknown(type: "new_kind", raw: "{}")])
        #expect(entry.number == 4 && entry.executionStart == nil)
    }

    @Test(arguments: [JSON.null, [], ["status": [:]], ["outputs": 5]])
    func whatIsNoEntryIsNone(_ json: JSON) {
        #expect(HistoryEntry(promptID: "p", json) == nil)
    }
}
