import MicroHTTP
import OrderedCollections
import OrderedJSON
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport

/// One viewer, read by hand.
@Suite struct EventStreamTests {
    private static let picture = [UInt8](repeating: 0xD8, count: 6000)

    private struct Viewer {
        let job: Job
        let stream: EventStream
        let viewers = Viewers()

        init(_ job: Job, from start: Job.Start = .snapshot, previews: PreviewMode = .base64) throws {
            self.job = job
            stream = try #require(
                EventStream(
                    job, from: start, representation: Representation(links: Links(origin: ""), retention: .zero), options: .init(previews: previews),
                    heartbeats: Heartbeats(interval: .seconds(1)), viewers: viewers))
            stream.attach {}
        }

        /// Everything that is there now, piece by piece.
        func read() -> [String] {
            var pieces: [String] = []
            while case .bytes(let bytes) = stream.next() { pieces.append(String(decoding: bytes, as: UTF8.self)) }
            return pieces
        }
    }

    private func runningJob() throws -> Job {
        let job = Job(submission: try .sample(), previewLimit: 4)
        job.started()
        return job
    }

    private func publish(_ count: Int, on job: Job) {
        for _ in 0..<count { _ = job.publish(preview: Self.picture, node: "3", contentType: "image/jpeg") }
    }

    private func numbers(_ pieces: [String]) -> [Int] {
        pieces.flatMap { $0.matches(of: #/"number":(\d+)/#).compactMap { Int($0.output.1) } }
    }

    private func dropped(_ pieces: [String]) -> [Int] {
        pieces.flatMap { $0.matches(of: #/event: dropped\ndata: \{"previews":(\d+)\}\n\n/#).compactMap { Int($0.output.1) } }
    }

    /// What clients make of a stream that take every blank line for the end of an event.
    private func blocks(_ text: String) -> [[Substring]] {
        text.dropLast().split(separator: "\n", omittingEmptySubsequences: false).split(separator: "", omittingEmptySubsequences: false).map(Array.init)
    }

    @Test("Every blank line ends an event with data, from the first byte on", arguments: [Job.Start.snapshot, .after(id: 0), .after(id: 1), .after(id: 900)])
    func noEmptyBlocks(_ start: Job.Start) throws {
        let job = try runningJob()
        let heartbeats = Heartbeats(interval: .seconds(1))
        let stream = try #require(
            EventStream(
                job, from: start, representation: Representation(links: Links(origin: ""), retention: .zero), options: .init(), heartbeats: heartbeats,
                viewers: Viewers()))
        stream.attach {}
        var text = ""
        func read() { while case .bytes(let bytes) = stream.next() { text += String(decoding: bytes, as: UTF8.self) } }
        func beat() {
            heartbeats.beat()
            read()
        }
        #expect(ServerSentEvent.retry(milliseconds: 1).last == UInt8(ascii: "\n") && ServerSentEvent.heartbeat.last == UInt8(ascii: "\n"))
        read()
        #expect(text.hasPrefix("retry: 1000\n"))
        beat()
        beat()
        publish(2, on: job)
        read()
        beat()
        job.publish(.log(LogEntry(.info, "a")))
        read()
        beat()
        stream.drain()
        read()
        #expect(text.matches(of: #/: heartbeat\n/#).count == 4)
        var found = blocks(text)
        #expect(found.last?.contains { $0.hasPrefix("data:") } == false, "what comes after the last event is no event")
        found.removeLast()
        #expect(found.count >= 3)
        for block in found { #expect(block.filter { $0.hasPrefix("data: {") }.count == 1, "\(block)") }
        #expect(text.hasSuffix("\n\n: heartbeat\nretry: 2000\n"))
    }

    @Test(
        "No character ends the line of data but for readers of bytes",
        arguments: [
            ("a\u{2028}b", #"a\u2028b"#), ("\u{2029}", #"\u2029"#), ("\u{85}\u{85}", #"\u0085\u0085"#), ("a\r\nb\u{B}\u{C}\u{1C}\u{1D}\u{1E}", #"a\r\nb\u000b\u000c\u001c\u001d\u001e"#),
            ("é\u{C5}€\u{2027}\u{202A}\u{84}😀", "é\u{C5}€\u{2027}\u{202A}\u{84}😀"), ("plain", "plain"),
        ])
    func lineSeparators(_ text: String, _ sent: String) {
        let event = ServerSentEvent.encode("log", id: 7, data: JSON.object(["message": .string(text)]).encoded())
        #expect(String(decoding: event, as: UTF8.self) == "id: 7\nevent: log\ndata: {\"message\":\"\(sent)\"}\n\n")
    }

    @Test func whoReadsTooLateIsToldHowManyPreviewsItMissed() throws {
        let viewer = try Viewer(runningJob())
        publish(3, on: viewer.job)
        #expect(numbers(viewer.read()) == [1, 2, 3])
        publish(10, on: viewer.job)
        let pieces = viewer.read()
        #expect(numbers(pieces) == [10, 11, 12, 13])
        #expect(dropped(pieces) == [6])
        #expect(pieces.first?.contains("event: dropped") == true)
        #expect(viewer.viewers.droppedPreviews == 6)
        publish(4, on: viewer.job)
        #expect(dropped(viewer.read()).isEmpty)
        // The last is told of before the end, also when nothing of it is left.
        publish(5, on: viewer.job)
        viewer.job.dropPreviews()
        viewer.job.finish(.succeeded)
        let end = viewer.read().joined()
        #expect(dropped([end]) == [5])
        #expect(end.hasSuffix(#"{"status":"succeeded"}"# + "\n\n"))
        #expect(viewer.viewers.droppedPreviews == 11)
    }

    @Test("What was over before a viewer came is not missed", arguments: [Job.Start.snapshot, .after(id: 0)])
    func lateViewer(_ start: Job.Start) throws {
        let job = try runningJob()
        publish(20, on: job)
        let viewer = try Viewer(job, from: start)
        let pieces = viewer.read()
        #expect(numbers(pieces).last == 20)
        #expect(dropped(pieces).isEmpty)
        publish(6, on: job)
        #expect(dropped(viewer.read()) == [2])
    }

    @Test func whoWantsNoPreviewsMissesNone() throws {
        let viewer = try Viewer(runningJob(), previews: .none)
        publish(20, on: viewer.job)
        viewer.job.finish(.succeeded)
        #expect(!viewer.read().joined().contains("dropped"))
        #expect(viewer.viewers.droppedPreviews == 0)
    }

    @Test func whoGoesAwayHavingStoppedToReadIsCounted() throws {
        let viewer = try Viewer(runningJob())
        #expect(viewer.viewers.count == 1)
        publish(20, on: viewer.job)
        viewer.stream.closed(.disconnected)
        #expect(viewer.viewers.droppedPreviews == 16)
        #expect(viewer.viewers.count == 0)
    }

    /// A viewer that stops reading holds one piece.
    @Test func aPieceIsOneLargeEventOrAFewSmallOnes() throws {
        let viewer = try Viewer(runningJob())
        _ = viewer.read()
        publish(4, on: viewer.job)
        #expect(viewer.read().map { [$0] }.map(numbers) == [[1], [2], [3], [4]])
        for number in 0..<200 { viewer.job.publish(.log(LogEntry(.info, "\(number)"))) }
        let pieces = viewer.read()
        #expect(pieces.joined().matches(of: #/event: log/#).count == 200)
        #expect(pieces.count < 20)
        #expect(pieces.allSatisfy { $0.utf8.count <= 4096 })
    }

    // MARK: Pieces that viewers share

    private func step(_ job: Job) {
        job.publish(.progress(JobProgress(value: 0.5, nodesDone: 1, nodesTotal: 2)))
        publish(1, on: job)
    }

    private func names(_ pieces: [String]) -> [[String]] { pieces.map { $0.matches(of: #/event: (\w+)/#).map { String($0.output.1) } } }

    @Test func whoKeepsUpGetsProgressAndItsPreviewInOnePiece() throws {
        let job = try runningJob()
        let viewers = try (0..<3).map { _ in try Viewer(job) }, url = try Viewer(job, previews: .url), none = try Viewer(job, previews: .none)
        for viewer in viewers + [url, none] { _ = viewer.read() }
        for number in 1...6 {
            step(job)
            let pieces = viewers.map { $0.read() }
            #expect(names(pieces[0]) == [["progress", "preview"]])
            #expect(numbers(pieces[0]) == [number])
            #expect(pieces[1] == pieces[0] && pieces[2] == pieces[0])
            #expect(url.read().joined().contains("/previews/\(number)\""))
            #expect(names(none.read()) == [["progress"]])
        }
        job.finish(.succeeded)
        for viewer in viewers { #expect(names(viewer.read()) == [["status"]]) }
        #expect(viewers.map(\.viewers.droppedPreviews) == [0, 0, 0])
    }

    @Test func whoIsBehindSharesLargeEventsOneByOne() throws {
        let job = try runningJob()
        let fast = try Viewer(job), slow = try Viewer(job)
        for viewer in [fast, slow] { _ = viewer.read() }
        for _ in 0..<2 {
            step(job)
            #expect(names(fast.read()) == [["progress", "preview"]])
        }
        #expect(numbers(slow.read()) == [1, 2])
        for _ in 0..<6 {
            step(job)
            _ = fast.read()
        }
        let pieces = slow.read()
        #expect(numbers(pieces) == [5, 6, 7, 8])
        #expect(dropped(pieces) == [2])
        #expect(names(pieces).last?.last == "preview")
        #expect(fast.viewers.droppedPreviews == 0)
    }

    @Test func whoComesBackGetsNothingThatWasSuperseded() throws {
        let job = Job(submission: try .sample())
        let watching = try Viewer(job)
        for position in [3, 2, 1, 0] {
            job.moved(to: QueuePlace(position: position, version: UInt64(4 - position)))
            _ = watching.read()
        }
        func positions(_ pieces: [String]) -> [Int] { pieces.flatMap { $0.matches(of: #/"queue_position":(\d+)/#).compactMap { Int($0.output.1) } } }
        let back = try Viewer(job, from: .after(id: 1))
        #expect(positions(back.read()) == [0])
        // Once it has caught up it shares what others get.
        job.moved(to: QueuePlace(position: 5, version: 5))
        let pieces = (watching.read(), back.read())
        #expect(positions(pieces.0) == [5] && pieces.0 == pieces.1)
    }

    /// Both are at the same place, but the piece lacks what one has to be told.
    @Test func whatOneViewerAloneIsToldIsInNoSharedPiece() throws {
        let job = try runningJob()
        let late = try Viewer(job)
        _ = late.read()
        publish(6, on: job)
        job.dropPreviews()
        job.publish(.log(LogEntry(.info, "a")))
        #expect(names(late.read()) == [["log"]])
        let new = try Viewer(job)
        _ = new.read()
        step(job)
        #expect(names(new.read()) == [["progress", "preview"]])
        let pieces = late.read()
        #expect(dropped(pieces) == [6])
        #expect(numbers(pieces) == [7])
    }
}
