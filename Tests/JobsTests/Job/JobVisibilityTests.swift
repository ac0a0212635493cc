import Foundation
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import TestSupport

/// Written, then shown: as a value. With a real store behind it: `VisibilityTests`.
@Suite struct JobVisibilityTests {
    private final class Case {
        var record: JobRecord
        var visibility: Visibility

        init(isJournaled: Bool = true) throws {
            record = JobRecord(
                submission: try .sample(), log: EventLog(previewLimit: 4, isHiddenUntilWritten: isJournaled), createdAt: Date(timeIntervalSince1970: 1))
            visibility = Visibility(record, isJournaled: isJournaled)
        }

        func begin() -> Unwritten { visibility.beginWriting(record) }
        func end(_ unwritten: Unwritten, isKept: Bool = true) -> Bool { visibility.endWriting(unwritten, isKept: isKept) }
        func log(_ text: String) { record.publish(.log(LogEntry(.info, text)), noting: nil) }
    }

    private func ids(_ unwritten: Unwritten) -> [UInt64] { unwritten.events.compactMap(\.id) }

    @Test func whereNothingIsWrittenEverythingIsSeenAtOnce() throws {
        let job = try Case(isJournaled: false)
        job.record.started()
        job.visibility.changed(job.record)
        #expect(job.visibility.shown.status == .running)
        let request = job.visibility.request(job.record, isAwaited: true)
        #expect(request == .none)
    }

    @Test func whatIsWrittenIsSeenAndNothingElse() throws {
        let job = try Case()
        job.record.started()
        job.visibility.changed(job.record)
        #expect(job.visibility.shown.status == .queued)
        let first = job.begin()
        #expect(ids(first) == [1, 2] && first.isChanged && first.from == Unwritten.Extent())
        job.record.finish(.succeeded, error: nil, isOnDisk: true)
        #expect(job.end(first))
        #expect(job.visibility.shown.status == .running)
        let second = job.begin()
        #expect(ids(second) == [3] && second.from == first.to && second.from.status == .running && second.to.status == .succeeded)
        #expect(job.end(second) && job.visibility.shown.status == .succeeded)
        #expect(job.begin().events.isEmpty)
    }

    @Test("What could not be written is given again, with what followed it", arguments: [[false, true], [false, false], [true, false], [true, true]])
    func failures(_ areKept: [Bool]) throws {
        let job = try Case()
        _ = job.end(job.begin())
        job.log("a")  // 2
        let first = job.begin()
        job.log("b")  // 3
        let second = job.begin()
        #expect(ids(first) == [2] && ids(second) == [3])
        let areWritten = [job.end(first, isKept: areKept[0]), job.end(second, isKept: areKept[1])]
        #expect(areWritten == [areKept[0], areKept == [true, true]])
        job.log("c")  // 4
        let expected: [UInt64] = areKept[0] ? (areKept[1] ? [4] : [3, 4]) : [2, 3, 4]
        #expect(ids(job.begin()) == expected)
    }

    @Test func outputsThatWereTakenBackAreForgotten() throws {
        let job = try Case()
        func output(_ name: String) -> Output { Output(job: JobID(), node: "2", name: name, kind: .text, contentType: "text/plain", blob: Blob(text: name)) }
        job.record.add(output("a"))
        let first = job.begin()
        #expect(!first.forgetsOutputs && first.firstNewOutput == 0)
        job.record.add(output("b"))
        let second = job.begin()
        #expect(!second.forgetsOutputs && second.firstNewOutput == 1)
        job.record.returned()
        job.record.add(output("c"))
        let third = job.begin()
        #expect(third.forgetsOutputs && third.firstNewOutput == 0 && third.snapshot.outputs.map(\.name) == ["c"])
    }

    /// `+`: something happens that nobody waits for. `!`: something happens that somebody waits for. `?`: somebody comes to see. `w`: it is written.
    @Test(
        "The journal is asked once, and again when it hurries",
        arguments: [
            ("+", [.none]), ("w+", [.write(isAwaited: false)]), ("w++", [.write(isAwaited: false), .none]), ("w!!", [.write(isAwaited: true), .none]),
            ("w+!", [.write(isAwaited: false), .hurry]), ("w+?", [.write(isAwaited: false), .hurry]), ("w+?!", [.write(isAwaited: false), .hurry, .none]),
            ("w?", [.none]), ("w+w?", [.write(isAwaited: false), .none]), ("w!w!", [.write(isAwaited: true), .write(isAwaited: true)]),
        ] as [(String, [Visibility.Request])])
    func requests(_ steps: String, _ expected: [Visibility.Request]) throws {
        let job = try Case()
        var requests: [Visibility.Request] = []
        for step in steps {
            switch step {
            case "w": _ = job.end(job.begin())
            case "?": requests.append(job.visibility.request(job.record, isAwaited: true))
            default:
                job.log("a")
                requests.append(job.visibility.request(job.record, isAwaited: step == "!"))
            }
        }
        #expect(requests == expected)
    }
}
