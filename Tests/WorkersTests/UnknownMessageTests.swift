import ComfyUI
import NIOCore
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import Store
@testable import Workers
@testable import Workflow

/// Messages that the bridge has no event for: kept, counted, and shown to the viewers of the job that they belong to.
@Suite struct UnknownMessageTests {
    enum Step: Sendable { case first, second, ended, foreign }

    @Test("A message belongs to the prompt that it names, else to the one that runs", arguments: [
        ([.first], .first, 1, 0), ([.first], .second, 0, 1), ([.first], nil, 1, 0), ([.first, .ended, .second], nil, 0, 1), ([.first], .foreign, 0, 0),
        ([.foreign], nil, 0, 0), ([], .second, 0, 1),
    ] as [([Step], Step?, Int, Int)])
    func belonging(_ before: [Step], _ named: Step?, _ toFirst: Int, _ toSecond: Int) async throws {
        for isBinary in [false, true] where !isBinary || named == nil {
            let metrics = Metrics()
            let inbox = PromptInbox(metrics: metrics) { _ in }
            let jobs = [JobID(), JobID()]
            let channels = jobs.map(inbox.open)
            func id(_ step: Step) -> String { step == .first ? jobs[0].description : step == .second ? jobs[1].description : JobID.makeUUID() }
            inbox.receive(.connected(sid: nil))
            for step in before {
                let message: ComfyMessage = step == .ended ? .executionEnded(promptID: id(.first)) : .executionStart(promptID: id(step), timestamp: nil)
                inbox.receive(.message(message, raw: ""))
            }
            if isBinary {
                inbox.receive(.binary(.unknown(type: 9, length: 2, head: ByteBuffer(string: "ab"))))
            } else {
                inbox.receive(.message(.unknown(type: "pack.x", raw: "{}", promptID: named.map(id)), raw: "{}"))
            }
            var counts: [Int] = []
            for (job, channel) in zip(jobs, channels) {
                inbox.close(job, channel)
                var count = 0
                while let input = await channel.next() {
                    switch input {
                    case .message(.unknown), .binary(.unknown): count += 1
                    default: break
                    }
                }
                counts.append(count)
            }
            #expect(counts == [toFirst, toSecond])
            #expect(metrics.unknownMessages[isBinary ? .binary : .text].value == 1)
            #expect(metrics.unknownMessagesDropped.value == (toFirst + toSecond == 0 ? 1 : 0))
        }
    }

    @Test func aFloodIsCountedAndNotPassedOn() async {
        let metrics = Metrics()
        let inbox = PromptInbox(metrics: metrics) { _ in }
        let job = JobID()
        let channel = inbox.open(job)
        for _ in 0..<1_000_000 { inbox.receive(.message(.unknown(type: "pack.x", raw: "{}", promptID: job.description), raw: "{}")) }
        #expect(metrics.unknownMessages[.text].value == 1_000_000)
        #expect(metrics.unknownMessagesDropped.value > 0)
        inbox.close(job, channel)
        var count = 0
        while await channel.next() != nil { count += 1 }
        #expect(count == 1_000_000 - metrics.unknownMessagesDropped.value && count >= 200)
    }

    /// A node pack may talk for ever: what it says proves nothing about the run.
    @Test func theyAreNoSignOfLife() {
        let inbox = PromptInbox { _ in }
        let job = JobID()
        _ = inbox.open(job)
        let opened = ContinuousClock.now
        for _ in 0..<10_000 { inbox.receive(.message(.unknown(type: "pack.x", raw: "{}", promptID: job.description), raw: "{}")) }
        let before = ContinuousClock.now
        inbox.receive(.message(.unknown(type: "pack.x", raw: "{}", promptID: job.description), raw: "{}"))
        #expect(inbox.silence(of: job) >= before - opened)
    }

    @Test("Without a name they are a running job's; large ones are told by type and size")
    func shown() throws {
        let graph: JSON = ["1": ["class_type": "SaveImage", "inputs": [:]]]
        var run = Execution(workflow: try Workflow(checking: graph), outputNodes: ["1"])
        func natives(_ effects: [Execution.Effect]) -> [JSON] {
            effects.compactMap { if case .publish(.comfyui(let raw)) = $0 { try? JSON(parsing: raw) } else { nil } }
        }
        func expect(_ effects: [Execution.Effect], _ expected: [JSON]) { #expect(natives(effects) == expected) }
        let named = ComfyMessage.unknown(type: "x", raw: #"{"type":"x"}"#, promptID: "p"), unnamed = ComfyMessage.unknown(type: "x", raw: #"{"type":"x"}"#)
        expect(run.received(named), [["type": "x"]])
        expect(run.received(unnamed), [])
        _ = run.received(.executionStart(promptID: "p", timestamp: nil))
        expect(run.received(unnamed), [["type": "x"]])
        let large = #"{"type":"x","data":""# + String(repeating: "x", count: 1 << 20) + #""}"#
        expect(run.received(.unknown(type: "x", raw: large, promptID: nil)), [["type": "x", "data": nil, "bytes": JSON(large.utf8.count)]])
        expect(
            run.received(.unknown(type: 9, length: 2, head: ByteBuffer(string: "ab"))),
            [["type": "binary", "data": ["type": 9, "bytes": 2, "data_base64": "YWI="]]])
        expect(
            run.received(.unknown(type: 9, length: 1 << 20, head: ByteBuffer(string: "ab"))),
            [["type": "binary", "data": ["type": 9, "bytes": 1_048_576, "data_base64": nil]]])
    }

    @Test func aJobKeepsSoManyBytesOfThem() {
        var log = EventLog(previewLimit: 1)
        let raw = String(repeating: "x", count: 60_000)
        for _ in 0..<1000 { log.append(.comfyui(raw: raw)) }
        let kept = log.events(after: 0, limit: 2000).count
        #expect(kept > 0 && kept * 60_000 <= EventLog.nativeBytesLimit)
    }

    @Test func whatANodeDoesIsToldWithItsProgress() throws {
        let graph: JSON = ["1": ["class_type": "KSampler", "inputs": [:]], "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0]]]]
        var tracker = ProgressTracker(workflow: try Workflow(checking: graph), needed: ["1", "2"])
        func report(_ state: NodeProgress.State, _ activity: String?) throws -> NodeProgress {
            let word = state == .finished ? "finished" : "running"
            let text = """
                {"type": "progress_state", "data": {"prompt_id": "p", "nodes": {"1": {"value": 0, "max": 1, "state": "\(word)"\(activity.map { ", \"activity\": \"\($0)\"" } ?? "")}}}}
                """
            guard case .progressState(_, let nodes) = try ComfyMessage(parsing: text) else { throw CancellationError() }
            return nodes[0]
        }
        _ = tracker.started("1", displayNode: "1")
        _ = tracker.state([try report(.running, "loading")])
        var changed = tracker.takeChangedProgress()
        #expect(tracker.progress.activity == "loading" && changed?.activity == "loading")
        _ = tracker.state([try report(.running, nil)])
        changed = tracker.takeChangedProgress()
        #expect(tracker.progress.activity == nil && changed != nil)
        _ = tracker.state([try report(.running, String(repeating: "x", count: 5000))])
        let length = tracker.progress.activity?.utf8.count ?? 0
        #expect((100...200).contains(length))
        _ = tracker.state([try report(.finished, nil)])
        #expect(tracker.progress.activity == nil)
        let kept = try JobProgress(record: JobProgress(value: 0, nodesDone: 0, nodesTotal: 1, activity: "loading").record)
        #expect(kept.activity == "loading")
    }
}
