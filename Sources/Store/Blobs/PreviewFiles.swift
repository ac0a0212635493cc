import FoundationEssentials
package import Jobs
package import Logging
import NIOPosix
import Wording

/// Previews as files, for people who like them on disk: `{job}/{node}-{n}.jpg`.
package final class PreviewFiles: PreviewFileStore {
    private let directory: URL
    private let logger: Logger

    package init(directory: String, logger: Logger) throws {
        self.directory = URL(fileURLWithPath: directory, isDirectory: true)
        self.logger = logger
        try FileManager.default.createDirectory(at: self.directory, withIntermediateDirectories: true)
    }

    package func write(_ preview: Preview, job: JobID) async {
        let folder = directory.appendingPathComponent(job.description, isDirectory: true)
        let node = String(preview.node.map { $0.isLetter || $0.isNumber || ".-_".contains($0) ? $0 : "_" })
        let file = folder.appendingPathComponent("\(node)-\(preview.number).\(preview.contentType == "image/png" ? "png" : "jpg")")
        do {
            try await onFileThread {
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
                try Data(preview.bytes).write(to: file)
            }
        } catch {
            logger.warning("a preview could not be written", metadata: .of(job, ["path": "\(file.path)", "error": "\(ErrorWords.of(error))"]))
        }
    }

    package func remove(of job: JobID) async {
        let path = directory.appendingPathComponent(job.description).path
        guard FileManager.default.fileExists(atPath: path) else { return }
        do { try await onFileThread { try FileManager.default.removeItem(atPath: path) } } catch {
            logger.warning("previews of an expired job could not be removed", metadata: .of(job, ["error": "\(ErrorWords.of(error))"]))
        }
    }

    private func onFileThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
        try await NIOThreadPool.singleton.runIfActive(body)
    }
}
