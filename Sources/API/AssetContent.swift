import ComfyUI
import FoundationEssentials
package import Jobs
package import Logging
package import MicroHTTP
import NIOCore
import NIOFoundationEssentialsCompat
import Synchronization
import Wording
package import Workers

/// Delivers the bytes of assets, wherever they are. Files inside ComfyUI are passed through piece by piece, never held.
package struct AssetContent: Sendable {
    /// Bytes of all outputs of one answer that may be sent inside JSON.
    static let inlineLimit = 256 << 20

    package let clients: ClientDirectory
    package let tasks: BackgroundTasks
    /// Bytes that were answered; of files and texts when the answer is made, of what passes through as it does.
    package let sent: Counter
    package let logger: Logger

    package init(clients: ClientDirectory, tasks: BackgroundTasks, sent: Counter, logger: Logger) {
        self.clients = clients
        self.tasks = tasks
        self.sent = sent
        self.logger = logger
    }

    /// - Parameter request: for conditions and ranges; nil sends the whole.
    package func response(for asset: Asset, request: Request?, headers extra: HTTPHeaders) async throws -> Response {
        var headers = self.headers(of: asset)
        for (name, value) in extra { headers[name] = value }
        let etag = "\"\(asset.id)\""
        if let request, request.matches(etag: etag) { return Response(status: 304, headers: headers, body: .empty) }
        // If-Range asks for the part only of the content it names (RFC 9110 section 13.1.5).
        let isRangeValid = request?.headers["If-Range"].map { $0 == etag } ?? true
        let rangeHeader = isRangeValid ? request?.headers["Range"] : nil
        guard let size = asset.blob.size else {
            return try await passThrough(asset, range: nil, size: nil, status: 200, headers)
        }
        switch try ByteRange(rangeHeader, size: size) {
        case .whole:
            return try await deliver(asset, 0..<size, size: size, status: 200, headers, isHead: request?.method == "HEAD")
        case .part(let range):
            headers["Content-Range"] = "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(size)"
            return try await deliver(asset, range, size: size, status: 206, headers, isHead: request?.method == "HEAD")
        }
    }

    /// The bytes as text; nil when they exceed what is left of the budget.
    func base64(of asset: Asset, budget: inout Int) async throws -> String? {
        guard let size = asset.blob.size, size <= budget else { return nil }
        budget -= size
        switch asset.blob.source {
        case .text(let text): return Data(text.utf8).base64EncodedString()
        case .stored(let path):
            do { return try Data(contentsOf: URL(fileURLWithPath: path)).base64EncodedString() } catch { throw gone(asset) }
        case .comfyUI(let file):
            return try await data(of: file, size: size, asset).base64EncodedString()
        }
    }

    /// The whole file; a download that breaks off is begun again, twice at most.
    private func data(of file: ComfyFile, size: Int, _ asset: Asset) async throws -> Data {
        var pauses = [Duration.milliseconds(100), .milliseconds(500)]
        while true {
            do {
                let download = try await clients.view(file)
                guard download.status == 200 else { throw gone(asset) }
                let data = Mutex(Data(capacity: size))
                try await download.body.forEach { piece in
                    try data.withLock { data in
                        guard data.count + piece.readableBytes <= size else { throw changed(asset) }
                        data.append(contentsOf: piece.readableBytesView)
                    }
                }
                return try data.withLock { data in
                    guard data.count == size else { throw changed(asset) }
                    return data
                }
            } catch {
                let failure = (error as? ComfyUIError).map { self.error($0, asset) } ?? error
                guard !pauses.isEmpty, (failure as? APIError)?.status != 404 else { throw failure }
                logger.debug("asking again for a file", metadata: ["asset.id": "\(asset.id)", "error": "\(NetworkWords.of(error))"])
                try await Task.sleep(for: pauses.removeFirst())
            }
        }
    }

    private func deliver(_ asset: Asset, _ range: Range<Int>, size: Int, status: Int, _ headers: HTTPHeaders, isHead: Bool) async throws -> Response {
        switch asset.blob.source {
        case .text(let text):
            if !isHead { sent.add(range.count) }
            return Response(status: status, headers: headers, body: .bytes(Array(Array(text.utf8)[range])))
        case .stored(let path):
            do {
                let file = try FileBody(path: path, range: Int64(range.lowerBound)..<Int64(range.upperBound))
                if !isHead { sent.add(range.count) }
                return Response(status: status, headers: headers, body: .file(file))
            } catch FileBodyError.system(let code, _) {
                logger.error("a file cannot be read", metadata: ["asset.id": "\(asset.id)", "error": "\(StorageError(code))"])
                throw APIError(StorageError(code))
            } catch {
                throw gone(asset)
            }
        case .comfyUI:
            if isHead { return Response(status: status, headers: headers, body: .stream(BodyPipe(), length: range.count)) }
            return try await passThrough(asset, range: range.count == size ? nil : range, size: size, status: status, headers)
        }
    }

    private func passThrough(_ asset: Asset, range: Range<Int>?, size: Int?, status: Int, _ headers: HTTPHeaders) async throws -> Response {
        guard case .comfyUI(let file) = asset.blob.source else { throw gone(asset) }
        let download: FileDownload
        do {
            download = try await clients.view(file, range: range.map { "bytes=\($0.lowerBound)-\($0.upperBound - 1)" })
        } catch {
            throw self.error(error, asset)
        }
        let expected = range?.count ?? size
        guard download.status == (range == nil ? 200 : 206) else { throw gone(asset) }
        if let expected, let length = download.contentLength, length != Int64(expected) { throw changed(asset) }
        let stream = BodyPipe()
        tasks.start {
            do {
                try await download.body.forEach { piece in
                    try await stream.write(Array(piece.readableBytesView))
                    sent.add(piece.readableBytes)
                }
                stream.finish()
            } catch {
                // Either the caller went away, or ComfyUI did; the caller sees that the content is cut off.
                logger.debug("a download ended early", metadata: ["asset.id": "\(asset.id)", "error": "\(NetworkWords.of(error))"])
                stream.fail()
            }
        }
        return Response(status: status, headers: headers, body: .stream(stream, length: expected ?? download.contentLength.map { Int($0) }))
    }

    /// For content that somebody else made, whoever it was (protocol section 14: anybody can make ComfyUI hold a file of any type). In a tab of its
    /// own it has neither scripts nor the bridge's origin.
    static let confinement: HTTPHeaders = ["Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"]

    private func headers(of asset: Asset) -> HTTPHeaders {
        let type = MediaType(asset.contentType) ?? .bytes
        var headers: HTTPHeaders = [
            "Content-Type": type.delivered.description,
            "Content-Disposition": "\(type.isShown ? "inline" : "attachment"); \(Self.filename(asset.name))",
            "ETag": "\"\(asset.id)\"", "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=3600",
        ]
        for (name, value) in Self.confinement { headers[name] = value }
        return headers
    }

    /// RFC 6266: a plain name for everybody, the exact one where they differ.
    static func filename(_ name: String) -> String {
        let plain = String(String.UnicodeScalarView(name.unicodeScalars.map { $0.isASCII && $0.value >= 0x20 && $0 != "\"" && $0 != "\\" && $0.value != 0x7F ? $0 : "_" }))
        guard plain != name else { return "filename=\"\(plain)\"" }
        let encoded = name.utf8.map { byte -> String in
            let character = Character(UnicodeScalar(byte))
            let isPlain = character.isASCII && (character.isLetter || character.isNumber || "-._~".contains(character))
            return isPlain ? String(character) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
        return "filename=\"\(plain)\"; filename*=UTF-8''\(encoded.joined())"
    }

    private func gone(_ asset: Asset) -> APIError {
        .notFound("ComfyUI does not have \(asset.name) any more (temporary files go with its restart, others when somebody deletes them).")
    }

    private func changed(_ asset: Asset) -> APIError {
        APIError(status: 502, code: "upstream_error", message: "\(asset.name) was changed inside ComfyUI since it was made.")
    }

    private func error(_ error: ComfyUIError, _ asset: Asset) -> APIError {
        switch error {
        case .notFound: return gone(asset)
        case .unreachable, .timedOut, .connectionLost: return APIError(unreachable: .unreachable(reason: "\(error)"))
        default: return APIError(status: 502, code: "upstream_error", message: "ComfyUI could not deliver \(asset.name). Try again later.")
        }
    }
}
