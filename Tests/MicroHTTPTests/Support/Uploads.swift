import Foundation
@testable import MicroHTTP

/// Uploads to `/upload…` by POST, streamed to a handler under test.
enum Upload {
    static let limit: @Sendable (_ method: String, _ path: String) -> Int? = { method, path in
        method == "POST" && path.hasPrefix("/upload") ? 100 * 1024 * 1024 : nil
    }

    /// The header line of `form`.
    static let type = "Content-Type: multipart/form-data; boundary=XX\r\n"

    /// One part, a file.
    static func form(_ content: [UInt8]) -> [UInt8] {
        let head = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n"
        return Array(head.utf8) + content + Array("\r\n--XX--\r\n".utf8)
    }

    /// A connection on which the head of a form of 20 MB has been sent and the first `sent` bytes of it.
    static func begin(port: UInt16, sent: Int) async throws -> Handed {
        try await offPool {
            let client = try Client(port: port)
            try client.send("POST /upload HTTP/1.1\r\nHost: a\r\n\(type)Content-Length: 20000000\r\n\r\n")
            try client.send(Array(form(pattern(1_000_000)).prefix(sent)))
            return Handed(client)
        }
    }

    /// Bytes of content up to the end; -1 if it does not come to one.
    static func size(_ form: FormUpload) async -> Int {
        var size = 0
        do {
            for try await case .bytes(let bytes) in form { size += bytes.count }
            return size
        } catch { return -1 }
    }

    /// Answers with the parts it saw, `name(file name, type)=size`, or what was wrong with them.
    static let list: @Sendable (Request) async -> Response = { request in
        guard let form = request.form else { return .text("no form, body of \(request.body.count)") }
        var seen: [String] = []
        var size = 0
        func endPart() {
            if !seen.isEmpty { seen[seen.count - 1] += "=\(size)" }
            size = 0
        }
        do {
            for try await element in form {
                switch element {
                case .part(let name, let filename, let contentType):
                    endPart()
                    seen.append("\(name)(\(filename ?? "-"), \(contentType ?? "-"))")
                case .bytes(let bytes): size += bytes.count
                }
            }
            endPart()
            return .text(seen.joined(separator: " "))
        } catch FormUploadError.malformed(let reason) {
            return .text(reason, status: 400)
        } catch {
            return .text("\(error)", status: 413)
        }
    }
}

/// A file for curl, as long as it is referenced.
final class TemporaryFile {
    let path: String

    init(_ bytes: [UInt8]) throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("upload-\(UUID().uuidString)")
        try Data(bytes).write(to: url)
        path = url.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
