package import AsyncHTTPClient
package import Logging
package import NIOSSL
import NIOCore
import NIOFoundationEssentialsCompat
import NIOHTTP1
import OrderedJSON

/// ComfyUI's HTTP routes as functions. Holds no state but where the server is; safe to use from any number of tasks.
///
/// Sends no `Origin`, `Sec-Fetch-*` or `Expect` (docs/comfyui-protocol.md, section 14) and asks for no compression. Every wait is bounded by `requestTimeout`;
/// JSON answers are collected up to `answerLimit` bytes.
package final class ComfyUIClient: Sendable {
    /// The most bytes of a JSON answer that are taken: queues and histories contain whole graphs.
    package static let answerLimit = 64 << 20

    package let endpoint: ComfyEndpoint
    let httpClient: HTTPClient
    let logger: Logger
    let requestTimeout: Duration

    /// - Parameters:
    ///   - httpClient: made with `httpClientConfiguration`; the caller shuts it down.
    ///   - requestTimeout: until the whole answer of a JSON route; of `view` until the head, and then between two pieces of the body.
    package init(endpoint: ComfyEndpoint, httpClient: HTTPClient, logger: Logger, requestTimeout: Duration = .seconds(30)) {
        self.endpoint = endpoint
        self.httpClient = httpClient
        self.logger = logger
        self.requestTimeout = requestTimeout
    }

    /// What an `HTTPClient` for this class needs: no redirects; an error at once when nobody listens, instead of further attempts; as many
    /// connections as there are downloads, so that a slow reader of a file never holds up a prompt; no read timeout, since AsyncHTTPClient's
    /// also runs while a download waits for its own reader.
    package static func httpClientConfiguration(connectTimeout: Duration = .seconds(10), tls: TLSConfiguration? = nil) -> HTTPClient.Configuration {
        var configuration = HTTPClient.Configuration(
            tlsConfiguration: tls, redirectConfiguration: .disallow,
            timeout: .init(connect: TimeAmount(connectTimeout), read: nil), decompression: .disabled)
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 1024
        configuration.httpVersion = .http1Only
        // Else every request collects attributes for a tracer that is not there.
        configuration.tracing.tracer = nil
        // Pieces of a download as large as a response takes them on: a quarter of the wake-ups. The way is named for debugging, but it is the
        // one to a channel option.
        configuration.http1_1ConnectionDebugInitializer = { channel in
            channel.setOption(.recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 4 << 10, initial: 16 << 10, maximum: 256 << 10))
        }
        return configuration
    }

    /// Status and whole body of one request to a JSON route.
    struct Answer: Sendable {
        let status: Int
        let body: ByteBuffer
        /// The body ended where `answerLimit` cut it.
        let isCut: Bool
    }

    func request(_ method: HTTPMethod, _ path: String, query: [(name: String, value: String)] = []) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: endpoint.url(path, query: query))
        request.method = method
        request.headers.add(name: "User-Agent", value: "comfy-bridge")
        request.headers.add(name: "Accept-Encoding", value: "identity")
        for header in endpoint.requestHeaders { request.headers.replaceOrAdd(name: header.name, value: header.value) }
        return request
    }

    func jsonRequest(_ path: String, body: [UInt8]) -> HTTPClientRequest {
        var request = request(.POST, path)
        request.headers.add(name: "Content-Type", value: "application/json")
        request.body = .bytes(ByteBuffer(bytes: body))
        return request
    }

    /// Sends `request` and collects the answer, whatever its status; both within `requestTimeout`.
    func answer(to request: HTTPClientRequest) async throws(ComfyUIError) -> Answer {
        let httpClient = httpClient
        let limit = requestTimeout
        return try await logged(request) { () async throws(ComfyUIError) in
            do {
                return try await withTimeLimit(limit, on: httpClient.eventLoopGroup.any()) {
                    try await Self.collect(try await httpClient.execute(request, deadline: .now() + TimeAmount(limit)))
                }
            } catch {
                throw ComfyUIError(transport: error)
            }
        }
    }

    /// Sends `request` and returns once the head of the answer is there.
    func head(of request: HTTPClientRequest) async throws(ComfyUIError) -> HTTPClientResponse {
        let httpClient = httpClient
        let deadline = NIODeadline.now() + TimeAmount(requestTimeout)
        return try await logged(request) { () async throws(ComfyUIError) in
            do {
                return try await httpClient.execute(request, deadline: deadline)
            } catch {
                throw ComfyUIError(transport: error)
            }
        }
    }

    static func collect(_ response: HTTPClientResponse) async throws -> Answer {
        var body = ByteBuffer()
        if let length = response.headers.first(name: "Content-Length").flatMap(Int.init), (1...answerLimit).contains(length) {
            body.reserveCapacity(min(length, 1 << 20))  // what the server claims is believed only so far
        }
        for try await var chunk in response.body {
            guard body.readableBytes + chunk.readableBytes <= answerLimit else {
                return Answer(status: Int(response.status.code), body: body, isCut: true)
            }
            body.writeBuffer(&chunk)
        }
        return Answer(status: Int(response.status.code), body: body, isCut: false)
    }

    private func logged<Value>(
        _ request: HTTPClientRequest, _ body: () async throws(ComfyUIError) -> sending Value
    ) async throws(ComfyUIError) -> sending Value {
        do throws(ComfyUIError) {
            return try await body()
        } catch {
            logger.debug(
                "request to ComfyUI failed",
                metadata: ["method": "\(request.method)", "comfyui": "\(endpoint)", "error": "\(error)"])
            throw error
        }
    }
}

extension ComfyUIClient {
    /// The answer's body as JSON, when its status is 200.
    func json(_ request: HTTPClientRequest) async throws(ComfyUIError) -> JSON {
        try Self.json(try await answer(to: request))
    }

    static func json(_ answer: Answer) throws(ComfyUIError) -> JSON {
        guard answer.status == 200 else { throw ComfyUIError(answer) }
        guard !answer.isCut else { throw ComfyUIError.answerTooLarge(limit: answerLimit) }
        do {
            return try JSON(parsing: answer.body.readableBytesView, lenient: true)
        } catch {
            throw ComfyUIError.badAnswer(answer)
        }
    }

    /// For routes that answer an empty 200.
    func acknowledged(_ request: HTTPClientRequest) async throws(ComfyUIError) {
        let answer = try await answer(to: request)
        guard answer.status == 200 else { throw ComfyUIError(answer) }
    }
}
