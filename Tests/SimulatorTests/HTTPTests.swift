import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// HTTP beyond the recorded requests.
@Suite(.timeLimit(.minutes(5)))
struct HTTPTests {
    @Test func bodiesBeyondTheLimitAreRefused() async throws {
        try await withSimulator {
            $0.maximumUploadSize = 10_000
        } _: { server in
            let answer = try await server.request(.POST, "/prompt", [:], [UInt8](repeating: 32, count: 10_001))
            #expect(answer.status == 413 && answer.text == "Maximum request body size 10000 exceeded.")
            #expect(try await server.get("/features").json["max_upload_size"] == 10000)
        }
    }

    @Test func everyGetAnswersHead() async throws {
        try await withSimulator { server in
            for path in ["/prompt", "/queue", "/object_info/KSampler", "/view?filename=example.png&type=input"] {
                let get = try await server.get(path), head = try await server.request(.HEAD, path)
                #expect(head.status == 200 && head.body.isEmpty)
                #expect(
                    head.header("content-length") == get.header("content-length")
                        && get.body.count == Int(get.header("content-length") ?? ""))
            }
        }
    }

    @Test(arguments: [
        ("bytes=0-9", 206, "bytes 0-9/1000", 0..<10), ("bytes=990-2000", 206, "bytes 990-999/1000", 990..<1000),
        ("bytes=-5", 206, "bytes 995-999/1000", 995..<1000), ("bytes=-5000", 206, "bytes 0-999/1000", 0..<1000),
        ("bytes=999-", 206, "bytes 999-999/1000", 999..<1000), ("bytes=1000-", 416, "bytes */1000", 0..<0),
        ("bytes=5-4", 416, "bytes */1000", 0..<0), ("bytes=0-1,5-6", 416, "bytes */1000", 0..<0), ("lines=1-2", 416, "bytes */1000", 0..<0),
        ("bytes=-0", 416, "bytes */1000", 0..<0), ("bytes=0-9223372036854775807", 206, "bytes 0-999/1000", 0..<1000),
    ])
    func rangesOfFiles(_ range: String, _ status: Int, _ contentRange: String, _ part: Range<Int>) async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        try await withSimulator {
            $0.directory = path
        } _: { server in
            let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            try Folders.write(bytes, to: path + "/output/f.bin")
            let answer = try await server.get("/view?filename=f.bin", ["Range": range])
            #expect(answer.status == status && answer.header("content-range") == contentRange)
            #expect(answer.body == Array(bytes[part]))
        }
    }

    @Test func conditionsOfFiles() async throws {
        try await withSimulator { server in
            let path = "/view?filename=example.png&type=input"
            let file = try await server.get(path)
            let tag = try #require(file.header("etag")), date = try #require(file.header("last-modified"))
            #expect(try await server.get(path, ["If-None-Match": "\"x\", W/\(tag)"]).status == 304)
            #expect(try await server.get(path, ["If-None-Match": "*"]).status == 304)
            #expect(try await server.get(path, ["If-None-Match": "\"x\"", "If-Modified-Since": date]).status == 200)
            #expect(try await server.get(path, ["If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"]).status == 200)
            #expect(try await server.get(path, ["If-Match": "\"x\""]).status == 412)
            #expect(try await server.get(path, ["Range": "bytes=0-0", "If-Range": "Sun, 06 Nov 1994 08:49:37 GMT"]).status == 200)
            #expect(try await server.get(path, ["Range": "bytes=0-0", "If-Range": date]).status == 206)
            let notModified = try await server.get(path, ["If-None-Match": tag])
            #expect(notModified.body.isEmpty && notModified.header("etag") == tag)
        }
    }

    @Test func largeFilesArriveWhole() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        try await withSimulator {
            $0.directory = path
        } _: { server in
            var random = SplitMix(state: 1)
            let bytes = (0..<3_000_001).map { _ in UInt8(random.next() & 0xFF) }
            try Folders.write(bytes, to: path + "/output/large.bin")
            #expect(try await server.get("/view?filename=large.bin").body == bytes)
            #expect(
                try await server.get("/view?filename=large.bin", ["Range": "bytes=300000-2999999"]).body
                    == Array(bytes[300_000..<3_000_000]))
        }
    }

    @Test func previewsOfFilesAreReencoded() async throws {
        try await withSimulator { server in
            let path = "/view?filename=example.png&type=input"
            let original = try Picture.decode(try await server.get(path).body)
            let jpeg = try await server.get(path + "&preview=jpeg;50")
            #expect(jpeg.header("content-type") == "image/jpeg" && jpeg.header("etag") == nil)
            #expect(try Picture.decode(jpeg.body).width == original.width)
            let webp = try await server.get(path + "&preview=webp")
            #expect(webp.header("content-type") == "image/webp" && webp.body.starts(with: Array("RIFF".utf8)))
            let size: Int = webp.body[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
            #expect(webp.body.count == 8 + size)
            let alpha = try Picture.decode(try await server.get(path + "&channel=a").body)
            #expect(alpha.channels == 4 && alpha.alpha().allSatisfy { $0 == 255 })
            #expect(try Picture.decode(try await server.get(path + "&channel=rgb").body).channels == 3)
        }
    }

    @Test func objectInfoDescribesWhatRuns() async throws {
        try await withSimulator {
            $0.checkpoints = ["a.safetensors", "b.safetensors"]
        } _: { server in
            let info = try #require(try await server.get("/object_info").json.object)
            for name in [
                "CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode", "LoadImage", "EmptyImage",
                "ImageScale",
                "ImageInvert", "SaveImage", "PreviewImage", "SaveImageWebsocket", "SimDelay", "SimRaise", "SimOutput", "SimBlock",
                "SimExpand",
                "SimProgressText", "SimSampler", "SimPreviews",
            ] {
                let entry = try #require(info[name], "\(name)")
                #expect(entry["name"]?.string == name)
                #expect(name.hasPrefix("Sim") == (entry["category"] == "simulator"))
                for (group, names) in entry["input_order"]?.object ?? [:] {
                    #expect(entry["input"]?[group]?.object?.keys.map(JSON.string) == names.array)
                }
            }
            #expect(info["CheckpointLoaderSimple"]?["input"]?["required"]?["ckpt_name"]?[0] == ["a.safetensors", "b.safetensors"])
            #expect(info["LoadImage"]?["input"]?["required"]?["image"]?[0] == ["example.png"])
            #expect(try await server.get("/models/checkpoints").json == ["a.safetensors", "b.safetensors"])
        }
    }

    @Test func requestsOnOneConnectionAreAnsweredInOrder() async throws {
        try await withSimulator { server in
            let requests = (0..<5).map { "GET /object_info/\($0 % 2 == 0 ? "KSampler" : "Nope") HTTP/1.1\r\nHost: x\r\n\r\n" }.joined()
            let text = try await RawConnection.exchange(requests + "GET /prompt HTTP/1.0\r\n\r\n", port: server.port)
            #expect(text.ranges(of: "HTTP/1.1 200 OK").count == 5)
            let order = text.ranges(of: #"{"KSampler": "#).count
            #expect(order == 3)
            #expect(text.hasSuffix(#"{"exec_info": {"queue_remaining": 0}}"#))
        }
    }

    @Test(arguments: ["nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "POST /prompt HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"])
    func malformedRequestsEndTheConnection(_ request: String) async throws {
        try await withSimulator { server in
            let text = try await RawConnection.exchange(request, port: server.port)
            #expect(text.isEmpty || text.hasPrefix("HTTP/1.") && text.contains(" 400 "))
            #expect(try await server.get("/prompt").status == 200)
        }
    }

    @Test func filesNamedForUploadsCannotEscape() async throws {
        try await withSimulator { server in
            #expect(try await upload("../x.png", to: server).status == 400)
            #expect(try await upload("x.png", subfolder: "/etc", to: server).status == 400)
            #expect(try await upload("a\\\"b.png", to: server).json["name"] == #"a"b.png"#)
            let deep = try await upload("x.png", subfolder: "deep/er", to: server)
            #expect(deep.json == ["name": "x.png", "subfolder": "deep/er", "type": "input"])
        }
    }

    private func upload(_ filename: String, subfolder: String = "", to server: TestServer) async throws -> Answer {
        let body = """
            --b\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\n\(subfolder)\r\n--b\r\nContent-Disposition: form-data; \
            name="image"; filename="\(filename)"\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n
            """
        return try await server.request(.POST, "/upload/image", ["Content-Type": "multipart/form-data; boundary=b"], Array(body.utf8))
    }
}
