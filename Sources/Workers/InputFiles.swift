import ComfyUI
import Jobs
import Logging
import NIOCore
import OrderedJSON
import Synchronization
import Workflow

/// The files that jobs read, inside one ComfyUI: brought into its input folder when the first job that runs there needs them.
final class InputFiles: Sendable {
    private struct Key: Hashable {
        /// The hash, or the id where it is not known.
        let content: String
        let path: Name
    }

    /// Places remembered; forgetting them costs an upload that ComfyUI recognises.
    private static let limit = 10_000

    private let client: ComfyUIClient
    private let clients: ClientDirectory
    private let logger: Logger
    private let known = Mutex<[Key: UploadedFile]>([:])

    init(client: ComfyUIClient, clients: ClientDirectory, logger: Logger) {
        self.client = client
        self.clients = clients
        self.logger = logger
    }

    /// The workflow of a submission as this ComfyUI can run it: with the names that its files have here.
    func graph(of submission: Submission) async throws(InputFileError) -> [UInt8] {
        var names: [AssetPlace: String] = [:]
        for input in submission.inputs { names[input.place] = try await name(of: input.asset) }
        do { return try submission.workflow.text(with: names) } catch { throw .unreadable(reason: "\(error)") }
    }

    /// What a loader's input takes for the asset. ComfyUI's own files are read where they are; others are uploaded unless they are there.
    private func name(of asset: Asset) async throws(InputFileError) -> String {
        if case .comfyUI(let file) = asset.blob.source, file.endpoint == client.endpoint.description { return UploadedFile(FileReference(file)).inputValue }
        let key = Key(content: asset.blob.hash?.description ?? asset.id, path: Name(asset.filePath))
        do {
            if let file = known.withLock({ $0[key] }), try await isThere(file, asset) { return file.inputValue }
            let file = try await upload(asset)
            known.withLock { known in
                if known.count >= Self.limit { known.removeAll() }
                known[key] = file
            }
            return file.inputValue
        } catch {
            throw InputFileError(error, asset)
        }
    }

    /// Somebody may have tidied up, or ComfyUI may be another one by now.
    private func isThere(_ file: UploadedFile, _ asset: Asset) async throws(ComfyUIError) -> Bool {
        guard let info = try await client.info(of: file.reference) else { return false }
        return info.size == nil || info.size == asset.blob.size.map(Int64.init)
    }

    /// Under its own name, unless another file has it: then ComfyUI chooses the next, `photo (1).png`.
    private func upload(_ asset: Asset) async throws(ComfyUIError) -> UploadedFile {
        logger.debug("bringing a file to ComfyUI", metadata: ["asset.id": "\(asset.id)", "file": "\(asset.filePath)"])
        var folders = asset.filePath.pathParts
        let name = folders.popLast() ?? asset.filePath
        let folder = asset.job == nil ? folders.joined(separator: "/") : ""
        switch asset.blob.source {
        case .text(let text):
            return try await client.upload(name: name, bytes: ByteBuffer(string: text), subfolder: folder)
        case .stored(let path):
            guard let size = asset.blob.size, let pieces = FilePieces(path: path) else { throw .notFound }
            return try await client.upload(name: name, content: pieces, length: Int64(size), subfolder: folder)
        case .comfyUI(let file):
            let download = try await clients.view(file)
            guard download.status == 200, let length = download.contentLength else { throw .notFound }
            return try await client.upload(name: name, content: download.body, length: length, subfolder: folder)
        }
    }
}

/// Why a job's file could not be brought to ComfyUI.
package enum InputFileError: Error {
    /// Its bytes are nowhere any more.
    case gone(name: String)
    /// ComfyUI does not take files of this size.
    case tooLarge(name: String)
    /// ComfyUI, or the one that has the file, cannot be reached now.
    case unreachable(reason: String)
    case unreadable(reason: String)

    init(_ error: ComfyUIError, _ asset: Asset) {
        switch error {
        case .notFound: self = .gone(name: asset.filePath)
        case .tooLarge: self = .tooLarge(name: asset.filePath)
        case .unreachable, .connectionLost, .timedOut, .cancelled: self = .unreachable(reason: "\(error)")
        default: self = .unreadable(reason: "\(error)")
        }
    }
}
