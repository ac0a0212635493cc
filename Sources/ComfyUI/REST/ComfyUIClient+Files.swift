import AsyncHTTPClient
package import NIOCore
import NIOHTTP1
import OrderedJSON

extension ComfyUIClient {
    /// `GET /view`. The values of the conditions are header values and are sent as they are.
    ///
    /// - Throws: `notFound` when there is no such file (any more); `badAnswer` for names that ComfyUI refuses (400, 403).
    package func view(
        _ file: FileReference, range: String? = nil, ifRange: String? = nil, ifNoneMatch: String? = nil, ifModifiedSince: String? = nil
    ) async throws(ComfyUIError) -> FileDownload {
        var request = viewRequest(.GET, file)
        for (name, value) in [
            ("Range", range), ("If-Range", ifRange), ("If-None-Match", ifNoneMatch), ("If-Modified-Since", ifModifiedSince),
        ] {
            if let value { request.headers.add(name: name, value: value) }
        }
        let response = try await head(of: request)
        switch response.status.code {
        case 200, 206, 304, 416: return FileDownload(response, idleLimit: requestTimeout, on: httpClient.eventLoopGroup.any())
        default: throw ComfyUIError(try await collected(response))
        }
    }

    /// `HEAD /view`; nil when there is no such file.
    package func info(of file: FileReference) async throws(ComfyUIError) -> FileInfo? {
        let response = try await head(of: viewRequest(.HEAD, file))
        switch response.status.code {
        case 200:
            return FileInfo(
                size: response.headers.first(name: "Content-Length").flatMap(Int64.init), contentType: response.headers.first(name: "Content-Type"),
                etag: response.headers.first(name: "ETag"), lastModified: response.headers.first(name: "Last-Modified"))
        case 404: return nil
        default: throw ComfyUIError(try await collected(response))
        }
    }

    /// `POST /upload/image` with bytes in memory. Any kind of file is taken.
    package func upload(
        name: String, bytes: ByteBuffer, type: String = "input", subfolder: String = "", overwrite: Bool = false
    ) async throws(ComfyUIError) -> UploadedFile {
        try await upload(
            name: name, content: PiecesOfBuffer(buffer: bytes), length: Int64(bytes.readableBytes), type: type, subfolder: subfolder,
            overwrite: overwrite)
    }

    /// `POST /upload/image` from a stream, which is read as fast as ComfyUI takes it.
    ///
    /// - Parameters:
    ///   - length: bytes that `content` will yield, exactly.
    ///   - type: `input`, `temp` or `output`.
    ///   - subfolder: created when missing; may not lead outside.
    /// - Throws: `timedOut` when for `requestTimeout` neither a piece was taken nor the answer came.
    package func upload<Content: AsyncSequence & Sendable>(
        name: String, content: Content, length: Int64, type: String = "input", subfolder: String = "", overwrite: Bool = false
    ) async throws(ComfyUIError) -> UploadedFile where Content.Element == ByteBuffer {
        let activity = Activity()
        let loops = httpClient.eventLoopGroup
        let body = MultipartBody(
            fields: [("type", type), ("subfolder", subfolder), ("overwrite", overwrite ? "true" : "false")], fileField: "image", filename: name,
            content: content, contentLength: length,
            onPiece: {
                activity.note()
                // AsyncHTTPClient hands pieces to the loop of the connection without waiting for it, and hears from it alone that the server takes
                // no more: on a busy machine hundreds of megabytes would come in between. So each piece waits until the one before has
                // been to its loop, whichever that is.
                for loop in loops.makeIterator() { try await loop.submit {}.get() }
            })
        var request = request(.POST, "/upload/image")
        request.headers.add(name: "Content-Type", value: body.contentType)
        request.body = .stream(body, length: .known(body.length))

        let (prepared, httpClient, limit) = (request, httpClient, requestTimeout)
        let answer: Answer
        do {
            answer = try await withIdleLimit(limit, activity, on: httpClient.eventLoopGroup.any()) {
                try await Self.collect(try await httpClient.execute(prepared, deadline: .distantFuture))
            }
        } catch {
            throw ComfyUIError(transport: error)
        }
        let json = try Self.json(answer)
        guard let filename = json["name"]?.string else { throw ComfyUIError.badAnswer(answer) }
        return UploadedFile(
            FileReference(filename: filename, subfolder: json["subfolder"]?.string ?? "", type: json["type"]?.string ?? type))
    }

    private func viewRequest(_ method: HTTPMethod, _ file: FileReference) -> HTTPClientRequest {
        request(method, "/view", query: [("filename", file.filename), ("subfolder", file.subfolder), ("type", file.type)])
    }

    private func collected(_ response: HTTPClientResponse) async throws(ComfyUIError) -> Answer {
        do {
            return try await withTimeLimit(requestTimeout, on: httpClient.eventLoopGroup.any()) { try await Self.collect(response) }
        } catch {
            throw ComfyUIError(transport: error)
        }
    }
}

/// A buffer in pieces, so that sending it shows progress.
struct PiecesOfBuffer: AsyncSequence, Sendable {
    let buffer: ByteBuffer

    func makeAsyncIterator() -> Iterator { Iterator(rest: buffer) }

    struct Iterator: AsyncIteratorProtocol {
        var rest: ByteBuffer

        mutating func next() async -> ByteBuffer? {
            rest.readableBytes == 0 ? nil : rest.readSlice(length: Swift.min(rest.readableBytes, 1 << 18))
        }
    }
}
