import Foundation
import Logging
import NIOPosix

/// The files that the bridge itself writes: results that came over the socket and are nowhere else, and previews for
/// people who like them on disk.
final class OutputFiles: Sendable {
    private let directory: URL
    private let isTemporary: Bool
    private let previewDirectory: URL?
    private let logger: Logger

    /// - Parameters:
    ///   - directory: where results are kept; nil makes a temporary one, which `removeTemporaryDirectory` removes.
    ///   - previewDirectory: where every preview is written as `{job}/{node}-{n}.jpg`; nil writes none.
    init(directory: String?, previewDirectory: String?, logger: Logger) throws {
        if let directory {
            self.directory = URL(fileURLWithPath: directory, isDirectory: true).appendingPathComponent("outputs", isDirectory: true)
        } else {
            self.directory = FileManager.default.temporaryDirectory.appendingPathComponent("comfy-bridge-\(JobID.makeUUID())", isDirectory: true)
        }
        isTemporary = directory == nil
        self.previewDirectory = previewDirectory.map { URL(fileURLWithPath: $0, isDirectory: true) }
        self.logger = logger
        for folder in [self.directory, self.previewDirectory].compactMap(\.self) {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        }
    }

    /// Writes a result and returns its path. The bytes are on disk, under their final name, when it returns.
    func writeOutput(_ bytes: [UInt8], job: JobID, name: String) async throws -> String {
        let folder = directory.appendingPathComponent(job.description, isDirectory: true)
        let file = folder.appendingPathComponent(name)
        try await onFileThread {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            try Data(bytes).write(to: file, options: .atomic)
        }
        return file.path
    }

    func writePreview(_ preview: Preview, job: JobID) async {
        guard let previewDirectory else { return }
        let folder = previewDirectory.appendingPathComponent(job.description, isDirectory: true)
        let node = String(preview.node.map { $0.isLetter || $0.isNumber || ".-_".contains($0) ? $0 : "_" })
        let file = folder.appendingPathComponent("\(node)-\(preview.number).\(preview.contentType == "image/png" ? "png" : "jpg")")
        do {
            try await onFileThread {
                try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
                try Data(preview.bytes).write(to: file)
            }
        } catch {
            logger.warning("a preview could not be written", metadata: ["job.id": "\(job)", "path": "\(file.path)", "error": "\(error)"])
        }
    }

    var writesPreviews: Bool { previewDirectory != nil }

    /// Removes what was written for a job.
    func removeOutputs(of job: Job) async {
        for folder in [directory, previewDirectory].compactMap(\.self) {
            let path = folder.appendingPathComponent(job.id.description).path
            guard FileManager.default.fileExists(atPath: path) else { continue }
            do { try await onFileThread { try FileManager.default.removeItem(atPath: path) } } catch {
                logger.warning("files of an expired job could not be removed", metadata: ["job.id": "\(job.id)", "error": "\(error)"])
            }
        }
    }

    func removeTemporaryDirectory() {
        guard isTemporary else { return }
        do { try FileManager.default.removeItem(at: directory) } catch {
            logger.warning("the temporary folder could not be removed", metadata: ["path": "\(directory.path)", "error": "\(error)"])
        }
    }

    private func onFileThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
        try await NIOThreadPool.singleton.runIfActive(body)
    }
}
