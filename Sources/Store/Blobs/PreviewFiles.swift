import DequeModule
import Dispatch
package import FoundationEssentials
package import Jobs
package import Logging
import Synchronization
import Wording

/// Previews as files: `{job}/{node}-{n}.jpg`. One after the other is written, on a thread that does nothing else; what comes faster than the disk takes it waits, and
/// of too much the oldest goes. So a slow disk costs previews, and never the time of a job.
package final class PreviewFiles: PreviewFileStore {
    /// The waiting line, as a value.
    struct Lane: Sendable {
        static let limit = 64
        /// The newest waits whatever its size.
        static let bytesLimit = 32 << 20

        typealias Item = (job: JobID, preview: Preview)

        private var waiting: Deque<Item> = []
        private var bytes = 0
        /// One is being written, or is about to be taken.
        private var isBusy = false
        /// How many were superseded since it was told last.
        private var dropped = 0

        var count: Int { waiting.count }

        /// - Returns: whether the writer has to be woken.
        mutating func add(_ preview: Preview, job: JobID) -> Bool {
            waiting.append((job, preview))
            bytes += preview.bytes.count
            while waiting.count > Self.limit || (bytes > Self.bytesLimit && waiting.count > 1) {
                bytes -= waiting.removeFirst().preview.bytes.count
                dropped += 1
            }
            defer { isBusy = true }
            return !isBusy
        }

        /// The next one to be written; nil sends the writer to sleep.
        mutating func next() -> Item? {
            guard let item = waiting.popFirst() else {
                isBusy = false
                return nil
            }
            bytes -= item.preview.bytes.count
            return item
        }

        mutating func remove(of job: JobID) {
            waiting.removeAll { $0.job == job }
            bytes = waiting.reduce(0) { $0 + $1.preview.bytes.count }
        }

        /// How many were superseded since it was told last; 0 also while that are fewer than `least`.
        mutating func takeDropped(atLeast least: Int = 1) -> Int {
            guard dropped >= least else { return 0 }
            defer { dropped = 0 }
            return dropped
        }
    }

    private let directory: URL
    private let logger: Logger
    private let lane = Mutex(Lane())
    private let writer = DispatchQueue(label: "comfy-bridge.previews")
    private let store: @Sendable (_ bytes: [UInt8], _ file: URL) throws -> Void

    /// - Parameter store: writes a file, whose folder may not be there yet.
    package init(directory: String, logger: Logger, store: @escaping @Sendable (_ bytes: [UInt8], _ file: URL) throws -> Void = PreviewFiles.store) throws {
        self.directory = URL(fileURLWithPath: directory, isDirectory: true)
        self.logger = logger
        self.store = store
        try FileManager.default.createDirectory(at: self.directory, withIntermediateDirectories: true)
    }

    package static func store(_ bytes: [UInt8], _ file: URL) throws {
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: file)
    }

    package func write(_ preview: Preview, job: JobID) {
        if lane.withLock({ $0.add(preview, job: job) }) { writer.async { self.drain() } }
    }

    /// One at a time, so that whoever waits for the writer has its turn also when previews come faster than they are written.
    private func drain() {
        let next = lane.withLock { $0.next() }
        let dropped = lane.withLock { $0.takeDropped(atLeast: next == nil ? 1 : Self.droppedAtOnce) }
        if dropped > 0 { logger.warning("the disk of --preview-dir is slower than the previews", metadata: ["dropped": .stringConvertible(dropped)]) }
        guard let (job, preview) = next else { return }
        write(preview, of: job)
        writer.async { self.drain() }
    }

    /// While the disk stays slow, a line of the log for so many.
    private static let droppedAtOnce = 1000

    private func write(_ preview: Preview, of job: JobID) {
        let node = String(preview.node.map { $0.isLetter || $0.isNumber || ".-_".contains($0) ? $0 : "_" })
        let file = folder(of: job).appendingPathComponent("\(node)-\(preview.number).\(preview.contentType == "image/png" ? "png" : "jpg")")
        do { try store(preview.bytes, file) } catch {
            logger.warning("a preview could not be written", metadata: .of(job, ["path": "\(file.path)", "error": "\(ErrorWords.of(error))"]))
        }
    }

    private func folder(of job: JobID) -> URL { directory.appendingPathComponent(job.description, isDirectory: true) }

    package func remove(of job: JobID) async {
        lane.withLock { $0.remove(of: job) }
        await onWriter {
            let path = self.folder(of: job).path
            guard FileManager.default.fileExists(atPath: path) else { return }
            do { try FileManager.default.removeItem(atPath: path) } catch {
                self.logger.warning("previews of an expired job could not be removed", metadata: .of(job, ["error": "\(ErrorWords.of(error))"]))
            }
        }
    }

    /// Returns when what was there to be written is.
    package func flush() async {
        let count = lane.withLock { $0.count }
        await onWriter {
            for _ in 0..<count {
                guard let (job, preview) = self.lane.withLock({ $0.next() }) else { return }
                self.write(preview, of: job)
            }
        }
    }

    /// Behind what is being written.
    private func onWriter(_ body: @escaping @Sendable () -> Void) async {
        await withCheckedContinuation { continuation in
            writer.async {
                body()
                continuation.resume()
            }
        }
    }
}
