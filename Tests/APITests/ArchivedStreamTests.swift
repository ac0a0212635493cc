import Foundation
import MicroHTTP
import OrderedCollections
import OrderedJSON
import Synchronization
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport

/// The stream of a job whose events are on disk: the thread that serves all viewers asks for them, and goes on.
@Suite struct ArchivedStreamTests {
    /// Answers when the test says so.
    private final class Archive: EventArchive {
        private let events: [LoggedEvent]
        private let requests = Mutex<[(after: UInt64, limit: Int, completion: @Sendable ([LoggedEvent]?) -> Void)]>([])

        init(_ count: Int) {
            events = (1...UInt64(count)).map { id in
                LoggedEvent(id: id, event: id == count ? .status(.succeeded, error: nil) : .log(LogEntry(.info, "\(id)")), date: Date())
            }
        }

        var asked: [UInt64] { requests.withLock { $0.map(\.after) } }

        func read(eventsOf: JobID, after id: UInt64, limit: Int, _ completion: @escaping @Sendable ([LoggedEvent]?) -> Void) {
            requests.withLock { $0.append((id, limit, completion)) }
        }

        func answer(isReadable: Bool = true) {
            for request in requests.withLock({ requests in
                defer { requests = [] }
                return requests
            }) { request.completion(isReadable ? Array(events.drop { $0.sequence <= request.after }.prefix(request.limit)) : nil) }
        }
    }

    private struct Viewer {
        let stream: EventStream
        let wakes = Counter()

        init(_ archive: Archive, count: Int, after id: UInt64) throws {
            var snapshot = Job.Snapshot(status: .succeeded, statusChangedAt: Date())
            snapshot.completedAt = Date()
            let stored = StoredJob(
                id: JobID(), createdAt: Date(), submission: try .sample(), snapshot: snapshot, firstEventID: 1, lastEventID: UInt64(count))
            let job = Job(stored, previewLimit: 4, journal: IdleJournal(), archive: archive)
            stream = try #require(
                EventStream(
                    job, from: .after(id: id), representation: Representation(links: Links(origin: ""), retention: .zero), options: .init(),
                    heartbeats: Heartbeats(interval: .seconds(1)), viewers: Viewers()))
            stream.attach { [wakes] in wakes.add() }
        }

        /// Ids, and how it goes on.
        func read() -> ([Int], BodyChunk) {
            var ids: [Int] = []
            while true {
                let chunk = stream.next()
                guard case .bytes(let bytes) = chunk else { return (ids, chunk) }
                ids += String(decoding: bytes, as: UTF8.self).matches(of: #/id: (\d+)/#).compactMap { Int($0.output.1) }
            }
        }
    }

    @Test func eventsComeInPagesAndNobodyWaitsForTheDisk() throws {
        let archive = Archive(150)
        let viewer = try Viewer(archive, count: 150, after: 3)
        var seen: [Int] = []
        for page in 1...3 {
            // Whoever asks in vain asks the disk once.
            for _ in 0..<3 {
                let (ids, end) = viewer.read()
                seen += ids
                #expect(end == .pending)
            }
            #expect(archive.asked == [UInt64(seen.last ?? 3)])
            archive.answer()
            #expect(viewer.wakes.value == page)
        }
        let (ids, end) = viewer.read()
        #expect(seen + ids == Array(4...150) && end == .finished && archive.asked.isEmpty)
    }

    @Test func whatCannotBeReadCutsTheStream() throws {
        let archive = Archive(9)
        let viewer = try Viewer(archive, count: 9, after: 0)
        #expect(viewer.read() == ([], .pending))
        archive.answer(isReadable: false)
        #expect(viewer.read() == ([], .failed) && viewer.wakes.value == 1)
    }

    @Test func aDrainWaitsForWhatIsBeingRead() throws {
        let archive = Archive(9)
        let viewer = try Viewer(archive, count: 9, after: 0)
        _ = viewer.read()
        viewer.stream.drain()
        #expect(viewer.read() == ([], .pending))
        archive.answer()
        #expect(viewer.read() == (Array(1...9), .finished))
    }

    @Test func anAnswerAfterTheViewerHasGoneIsOfNoUse() throws {
        let archive = Archive(9)
        weak var stream: EventStream?
        func come() throws {
            let viewer = try Viewer(archive, count: 9, after: 0)
            _ = viewer.read()
            viewer.stream.closed(.disconnected)
            stream = viewer.stream
        }
        try come()
        #expect(stream == nil)
        archive.answer()
    }
}
