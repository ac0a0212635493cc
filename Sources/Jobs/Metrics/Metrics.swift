package import FoundationEssentials
import Synchronization
import Wording

/// What one bridge counts about itself, for `/metrics`.
///
/// Plain typed instruments, not swift-metrics: its facade finds an instrument by strings at every use or has it made
/// globally, once for each process, knows no buckets, and is there so that libraries can report to a system of the application's
/// choice. None of our libraries reports anything, there is one format, and here the compiler knows every label and its values.
package final class Metrics: Sendable {
    /// A stretch of time that a job would not need without the bridge. What it waits in the queue is none.
    package enum Overhead: String, CaseIterable, Sendable {
        /// From the request, body and all, to its place in the queue.
        case accept
        /// From the queue to ComfyUI's word that it has the job.
        case handOver = "hand_over"
        /// From ComfyUI's last word on the job to its end.
        case finish
    }

    /// Why ComfyUI's queue and history were asked about a job.
    package enum ReconciliationReason: String, CaseIterable, Sendable {
        /// The socket was away.
        case reconnect
        case silence
        /// Messages of the run are missing or contradict themselves.
        case gap
        /// ComfyUI gave no clear answer when it was handed the job.
        case submit
        /// The job is being taken back.
        case cancel
        /// Something happened while ComfyUI was asked.
        case again
        /// The job was ComfyUI's before the bridge was started.
        case adoption
    }

    package enum Received: String, CaseIterable, Sendable { case preview, upload }
    package enum Sent: String, CaseIterable, Sendable { case preview, asset }

    /// A message of ComfyUI's that the bridge has no event for.
    package enum UnknownMessage: String, CaseIterable, Sendable {
        /// Of a type that only node packs or later versions know.
        case text
        case binary
        /// Of a type that is known, and yet not to be read.
        case unreadable
    }

    /// How a job ended.
    package struct End: Hashable, Sendable {
        package let status: JobStatus
        package let code: JobError.Code?

        package init(status: JobStatus, code: JobError.Code?) {
            self.status = status
            self.code = code
        }
    }

    package let submitted = Counter()
    /// Jobs that went back into the queue.
    package let returned = Counter()
    package let queueTime = Histogram(bounds: Metrics.waits)
    package let executionTime = Histogram(bounds: Metrics.waits)
    package let overhead = Dictionary(uniqueKeysWithValues: Overhead.allCases.map { ($0, Histogram(bounds: Metrics.overheads)) })
    package let reconciliations = CounterSet<ReconciliationReason>()
    package let previews = Counter()
    package let unknownMessages = CounterSet<UnknownMessage>()
    /// Those that no job's viewers could be shown: nothing ran, or there were too many.
    package let unknownMessagesDropped = Counter()
    package let viewers = Viewers()
    package let received = CounterSet<Received>()
    package let sent = CounterSet<Sent>()

    private let ends = Mutex<[End: Int]>([:])
    private let connects = Mutex<[String: Int]>([:])

    private static let waits = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600]
    private static let overheads = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

    package init() {}

    package func observe(_ phase: Overhead, _ duration: Duration) { overhead[phase]?.observe(duration) }

    /// ComfyUI has taken a job.
    package func delivered(_ marks: JobTimeline.Marks) {
        if let taken = marks.taken, let delivered = marks.delivered { observe(.handOver, delivered - taken) }
    }

    package func ended(_ job: Job) {
        let (snapshot, marks) = (job.current, job.timeline.marks)
        ends.withLock { $0[End(status: snapshot.status, code: snapshot.error?.code), default: 0] += 1 }
        snapshot.queueTime(since: job.createdAt).map(queueTime.observe)
        snapshot.executionTime.map(executionTime.observe)
        if let executed = marks.executed { observe(.finish, .now - executed) }
    }

    package func connected(to endpoint: String) { connects.withLock { $0[endpoint, default: 0] += 1 } }

    package func received(previewOf bytes: Int) {
        previews.add()
        received[.preview].add(bytes)
    }

    package var endCounts: [End: Int] { ends.withLock { $0 } }
    package func reconnects(to endpoint: String) -> Int { connects.withLock { max(0, ($0[endpoint] ?? 0) - 1) } }
}

extension Job.Snapshot {
    /// A job that ended without running spent all its time waiting; nil while it does. The clock may have been set back meanwhile.
    package func queueTime(since createdAt: Date) -> Duration? {
        (startedAt ?? completedAt).map { .seconds(max(0, $0.timeIntervalSince(createdAt))) }
    }

    package var executionTime: Duration? {
        guard let startedAt, let completedAt else { return nil }
        return .seconds(max(0, completedAt.timeIntervalSince(startedAt)))
    }
}
