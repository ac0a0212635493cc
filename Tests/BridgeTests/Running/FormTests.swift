import Logging
import MicroHTTP
import NIOHTTP1
import Testing

@testable import API
@testable import Jobs

/// Forms of any endpoint, as they arrive at a server.
@Suite(.timeLimit(.minutes(5))) struct FormTests {
    private static let layout = FormLayout(
        files: ["image", "mask"], texts: [.init(name: "workflow", limit: 1 << 20), .init(name: "seed"), .init(name: "note", limit: 1 << 20, isRepeated: true)])

    /// Reads a form to its end, as text: each file with its size, then the texts.
    private func read(_ parts: [(header: String, content: String)]) async throws -> String {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let server = HTTPServer(configuration: .init(threads: 1), logger: logger, failure: { failure, _ in APIError(failure).response }) { _ in
            .admitted(body: .streamed(limit: 100 << 20)) { request in
                var reader = FormReader(request.form!, Self.layout)
                var seen: [String] = []
                var size = 0
                do {
                    while let event = try await reader.next() {
                        switch event {
                        case .file(let name, let filename, let type):
                            seen.append("\(name) \(filename ?? "-") \(type ?? "-")")
                            size = 0
                        case .bytes(let bytes):
                            size += bytes.count
                            seen[seen.count - 1] = "\(seen[seen.count - 1].prefix { $0 != "=" })=\(size)"
                        }
                    }
                } catch let error as APIError {
                    return Response(status: error.status, body: .bytes(Array(error.message.utf8)))
                } catch {
                    return Response(status: 500)
                }
                let texts = Self.layout.texts.map { text in "\(text.name): \(reader.texts(text.name).map { $0.count > 20 ? "\($0.count)" : $0 })" }
                return Response(status: 200, body: .bytes(Array((seen + texts).joined(separator: ", ").utf8)))
            }
        }
        let bridge = RunningBridge(base: "http://127.0.0.1:\(try server.start())")
        let running = Task { try await server.run() }
        defer { running.cancel() }
        let body = parts.map { "--XX\r\nContent-Disposition: form-data; \($0.header)\r\n\r\n\($0.content)\r\n" }.joined() + "--XX--\r\n"
        let answer = try await bridge.send(.POST, "/", [("Content-Type", "multipart/form-data; boundary=XX")], body: Array(body.utf8))
        return "\(answer.status) " + String(decoding: answer.body, as: UTF8.self)
    }

    @Test func partsInAnyOrder() async throws {
        let text = try await read([
            (#"name="seed""#, "7"), (#"name="mask"; filename="m.png""#, "12345"), (#"name="note""#, "a"), (#"name="workflow""#, "{}"), (#"name="image""#, ""), (#"name="note""#, ""),
        ])
        #expect(text == #"200 mask m.png -=5, image - -, workflow: ["{}"], seed: ["7"], note: ["a", ""]"#)
    }

    @Test func aMegabyteOfTextsAndNoMore() async throws {
        let half = String(repeating: "x", count: 1 << 19)
        #expect(try await read([(#"name="workflow""#, half), (#"name="note""#, half)]) == #"200 workflow: ["524288"], seed: [], note: ["524288"]"#)
        #expect(try await read([(#"name="workflow""#, half), (#"name="note""#, half), (#"name="seed""#, "1")]) == "422 The parts beside the file have more than 1048576 bytes together.")
        #expect(try await read([(#"name="workflow""#, half + half + "1")]).hasPrefix("422 The part 'workflow' has more than 1048576 bytes"))
    }

    @Test func eachFileOnce() async throws {
        #expect(try await read([(#"name="mask""#, "1"), (#"name="image""#, "1"), (#"name="mask""#, "1")]).hasPrefix("422 There are several parts named 'mask'"))
        let unknown = try await read([(#"name="imag""#, "1")])
        #expect(unknown == "422 A part of the form is named 'imag', which means nothing here; possible are image, mask, workflow, seed, note.")
    }
}
