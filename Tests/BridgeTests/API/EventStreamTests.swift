import MicroHTTP
import Testing

@testable import Bridge

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
                    job, from: start, representation: Representation(links: Links(base: ""), retention: .zero), options: .init(previews: previews),
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
}
