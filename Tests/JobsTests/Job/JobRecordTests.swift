import Foundation
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import TestSupport

/// What is true of a job, as a value.
@Suite struct JobRecordTests {
    private func record() throws -> JobRecord {
        JobRecord(submission: try .sample(), log: EventLog(previewLimit: 4), createdAt: Date(timeIntervalSince1970: 1))
    }

    private func output(_ name: String) -> Output { Output(job: JobID(), node: "2", name: name, kind: .text, contentType: "text/plain", blob: Blob(text: name)) }

    private func text(_ event: JobEvent) -> String {
        switch event {
        case .status(let status, _): status.rawValue
        case .queuePosition(let position): "place \(position)"
        case .output(let output): output.name
        case .log(let entry): entry.level.rawValue
        case .preview(let preview): "preview \(preview.number)"
        case .progress: "progress"
        case .node(let node): node.node
        case .comfyui: "comfyui"
        }
    }

    private func events(_ record: JobRecord) -> [String] { record.log.events(after: 0, limit: 100).map { text($0.event) } }

    /// `s`: a run starts. `q`: cancel. `f`: the end. Each with the statuses that viewers are told of, and whether the worker was asked to cancel.
    @Test(
        "Transitions of the status",
        arguments: [
            ("", ["queued"], 0), ("s", ["queued", "running"], 0), ("ss", ["queued", "running"], 0), ("q", ["queued", "canceling"], 0),
            ("tq", ["queued", "canceling"], 1), ("tqq", ["queued", "canceling"], 1), ("tsq", ["queued", "running", "canceling"], 1), ("qs", ["queued", "canceling"], 0),
            ("tscq", ["queued", "running", "canceling"], 0), ("tsf", ["queued", "running", "succeeded"], 0), ("tsqf", ["queued", "running", "canceling", "succeeded"], 1),
        ] as [(String, [String], Int)])
    func statuses(_ steps: String, _ expected: [String], _ asked: Int) throws {
        var record = try record()
        let requests = Counter()
        for (number, step) in steps.enumerated() {
            let date = Date(timeIntervalSince1970: Double(number + 2))
            switch step {
            case "s": record.started(at: date)
            case "t":
                let isTaken = record.taken { requests.add() }
                #expect(isTaken)
            case "c": _ = record.endAttempt { _ in }
            case "q": record.requestCancel(at: date)?()
            default: record.finish(.succeeded, error: nil, isOnDisk: false, at: date)
            }
        }
        #expect(events(record) == expected && requests.value == asked)
        #expect(record.isOver == (steps.last == "f"))
        #expect(record.current.completedAt == (steps.last == "f" ? record.current.statusChangedAt : nil))
        if steps.contains("s"), !steps.hasPrefix("q") { #expect(record.current.startedAt != nil) }
    }

    @Test("A canceled job is not taken", arguments: [("q", false), ("", true), ("s", true)]) func takes(_ steps: String, _ isTaken: Bool) throws {
        var record = try record()
        if steps == "q" { _ = record.requestCancel() } else if steps == "s" { record.started() }
        let taken = record.taken {}
        #expect(taken == isTaken)
    }

    /// Places are told outside the queue's lock, so they may overtake each other.
    @Test(
        "Of two places the newer one counts",
        arguments: [
            ([(3, 1), (2, 2)], ["place 2"], 2), ([(2, 2), (3, 1)], ["place 2"], 2), ([(2, 2), (2, 5), (3, 4)], ["place 2"], 2), ([(0, 1)], ["place 0"], 0),
        ] as [([(Int, UInt64)], [String], Int)])
    func places(_ places: [(Int, UInt64)], _ expected: [String], _ position: Int) throws {
        var record = try record()
        for place in places { record.moved(to: QueuePlace(position: place.0, version: place.1)) }
        #expect(Array(events(record).dropFirst()) == expected && record.current.queuePosition == position)
        record.started()
        #expect(record.current.queuePosition == nil)
        // What was on its way when the run began is not told after it.
        record.moved(to: QueuePlace(position: 9, version: 1))
        #expect(record.current.queuePosition == nil && record.log.events(after: 0, limit: 100).last.map { text($0.event) } == "running")
    }

    @Test("What is written besides events is counted once for each change") func versions() throws {
        var record = try record()
        func changes(_ body: (inout JobRecord) -> Void) -> UInt64 {
            let before = record.version
            body(&record)
            return record.version - before
        }
        #expect(changes { $0.assign(to: "http://a") } == 1)
        #expect(changes { $0.assign(to: "http://a") } == 0)
        #expect(changes { $0.started() } == 1)
        #expect(changes { $0.started() } == 0)
        #expect(changes { _ = $0.endAttempt { _ in } } == 0)
        #expect(changes { _ = $0.endAttempt { $0.lost += 1 } } == 1)
        #expect(changes { $0.cancellationRequested() } == 1)
        #expect(changes { $0.cancellationRequested() } == 0)
        #expect(changes { $0.markReusedOutputs() } == 1)
        #expect(changes { $0.add(output("a")) } == 0, "outputs are counted by themselves")
        #expect(changes { $0.returned() } == 1)
        #expect(record.returns == 1 && record.current.outputs.isEmpty)
    }

    @Test("Progress is written from time to time") func progress() throws {
        var record = try record()
        let (begin, before) = (ContinuousClock.now, record.version)
        let progress = JobEvent.progress(JobProgress(value: 0.5, nodesDone: 1, nodesTotal: 2))
        for millisecond in 200...500 { record.publish(progress, noting: begin + .milliseconds(millisecond)) }
        #expect(record.version - before == 4)  // at 200, 300, 400 and 500
        record.publish(progress, noting: nil)
        record.publish(.log(LogEntry(.info, "a")), noting: begin + .seconds(9))
        #expect(record.version - before == 4)
    }

    @Test func viewersAreToldOfAnAbsenceAndOfItsEndOnce() throws {
        var record = try record()
        record.noteReturn()
        for _ in 0..<2 { record.noteAbsence { "away" } }
        for _ in 0..<2 { record.noteReturn() }
        record.noteAbsence { "away" }
        #expect(events(record) == ["queued", "warning", "info", "warning"])
    }

    @Test func outputsAreFoundByTheirAssetsUntilTheRunIsTakenBack() throws {
        var record = try record()
        let (first, second) = (output("a"), output("b"))
        record.add(first)
        let found = record.output(first.asset.id)?.name
        #expect(found == "a")
        record.add(second)
        let others = [record.output(second.asset.id)?.name, record.output("x")?.name]
        #expect(others == ["b", nil])
        record.returned()
        let gone = record.output(first.asset.id)
        #expect(gone == nil)
    }
}
