import Foundation
import NIOCore
import OrderedCollections
import OrderedJSON
import Testing

/// One file of real traffic (`Recordings/`): what a client of ComfyUI saw, line by line.
struct Recording: Sendable, CustomTestStringConvertible {
    /// `name`, `v0.25/name` or `v0.33/name`.
    let name: String

    var testDescription: String { name }

    struct Exchange: Sendable {
        let method: String
        let path: String
        let query: String
        let requestBody: JSON?
        let status: Int
        let headers: JSONObject
        let body: [UInt8]

        var json: JSON? { try? JSON(parsing: body, lenient: true) }
    }

    static let all: [Recording] = {
        let folder = Bundle.module.url(forResource: "Recordings", withExtension: nil)!
        return ["", "v0.25/", "v0.33/"].flatMap { prefix in
            let files = try! FileManager.default.contentsOfDirectory(atPath: folder.appending(path: prefix).path)
            return files.filter { $0.hasSuffix(".jsonl") }.sorted().map { Recording(name: prefix + $0.dropLast(".jsonl".count)) }
        }
    }()

    static func named(_ name: String) throws -> Recording {
        try #require(all.first { $0.name == name })
    }

    func lines() throws -> [JSON] {
        let folder = try #require(Bundle.module.url(forResource: "Recordings", withExtension: nil))
        let data = try Data(contentsOf: folder.appending(path: name + ".jsonl"))
        return try data.split(separator: UInt8(ascii: "\n")).map { try JSON(parsing: Array($0), lenient: true) }
    }

    func received(_ kind: String) throws -> [JSON] {
        try lines().filter { $0["ev"]?.string == "ws_recv" && $0["kind"]?.string == kind }
    }

    /// The text frames, in order.
    func texts() throws -> [String] {
        try received("text").map { try #require($0["text"]?.string) }
    }

    /// The binary frames, in order.
    func binaries() throws -> [ByteBuffer] {
        try received("binary").map { line in
            let data = try #require(line["base64"]?.string.flatMap { Data(base64Encoded: $0) })
            #expect(data.count == line["len"]?.int)
            return ByteBuffer(bytes: data)
        }
    }

    /// Requests with their answers.
    func exchanges() throws -> [Exchange] {
        let lines = try lines()
        var requests: [String: JSON] = [:]
        for line in lines where line["ev"]?.string == "http_request" {
            let id = try #require(line["id"]).text
            requests[id] = line
        }
        return try lines.filter { $0["ev"]?.string == "http_response" }.map { answer in
            let id = try #require(answer["id"]).text
            let request = try #require(requests[id])
            return Exchange(
                method: try #require(request["method"]?.string), path: try #require(request["path"]?.string), query: request["query"]?.text ?? "",
                requestBody: request["body_text"]?.string.flatMap { try? JSON(parsing: $0, lenient: true) },
                status: try #require(answer["status"]?.int), headers: answer["headers"]?.object ?? [:], body: Self.body(answer))
        }
    }

    private static func body(_ line: JSON) -> [UInt8] {
        if let text = line["body_text"]?.string { return Array(text.utf8) }
        return line["body_base64"]?.string.flatMap { Data(base64Encoded: $0) }.map(Array.init) ?? []
    }
}
