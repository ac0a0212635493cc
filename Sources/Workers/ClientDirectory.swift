package import AsyncHTTPClient
package import ComfyUI
package import Jobs
package import Logging
import NIOCore

/// The clients of all ComfyUIs by their addresses: the configured ones with their credentials, and those of a former configuration, in which files
/// may still be.
package struct ClientDirectory: ComfyFileReader {
    private let configured: [String: ComfyUIClient]
    private let httpClient: HTTPClient
    private let logger: Logger

    package init(endpoints: [ComfyEndpoint], httpClient: HTTPClient, logger: Logger) {
        configured = Dictionary(
            endpoints.map { ($0.description, ComfyUIClient(endpoint: $0, httpClient: httpClient, logger: logger)) }, uniquingKeysWith: { first, _ in first })
        self.httpClient = httpClient
        self.logger = logger
    }

    func client(of endpoint: ComfyEndpoint) -> ComfyUIClient {
        configured[endpoint.description] ?? ComfyUIClient(endpoint: endpoint, httpClient: httpClient, logger: logger)
    }

    /// Throws `notFound` for what is no address.
    func client(at address: String) throws(ComfyUIError) -> ComfyUIClient {
        if let client = configured[address] { return client }
        // Why it is no address helps nobody: it was written down by a former bridge.
        guard let endpoint = try? ComfyEndpoint(address) else { throw .notFound }
        return client(of: endpoint)
    }

    /// The file, or the part of it that `range` (of a `Range` header) names.
    package func view(_ file: ComfyFile, range: String? = nil) async throws(ComfyUIError) -> FileDownload {
        try await client(at: file.endpoint).view(FileReference(file), range: range)
    }

    package func read(_ file: ComfyFile, _ take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void) async throws {
        let download = try await view(file)
        guard download.status == 200 else { throw ComfyUIError.notFound }
        try await download.body.forEach { piece in try piece.withUnsafeReadableBytes(take) }
    }
}

extension ComfyFile {
    package init(_ file: FileReference, in endpoint: ComfyEndpoint) {
        self.init(endpoint: endpoint.description, filename: file.filename, subfolder: file.subfolder, type: file.type)
    }
}

extension FileReference {
    init(_ file: ComfyFile) { self.init(filename: file.filename, subfolder: file.subfolder, type: file.type) }
}
