import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// What runs do, beyond the recorded scenarios.
@Suite(.timeLimit(.minutes(5)))
struct ExecutionTests {
    @Test(arguments: [true, false])
    func previewsAreJPEGsThatChangeFromStepToStep(_ negotiates: Bool) async throws {
        try await withSimulator {
            $0.previewSize = 96
        } _: { server in
            let socket = try await server.socket(flags: negotiates)
            _ = try await server.submit(Graphs.textToImage(steps: 6, size: 128))
            let messages = try await socket.messagesOfRun()
            let frames = messages.compactMap(\.bytes)
            #expect(frames.count == 6)
            #expect(frames.allSatisfy { $0[3] == (negotiates ? 4 : 1) })
            let pictures = messages.compactMap(\.picture)
            #expect(pictures.count == 6)
            #expect(pictures.allSatisfy { max($0.width, $0.height) == 96 })
            let distances = zip(pictures, pictures.dropFirst()).map { difference($0, $1) }
            #expect(distances.allSatisfy { $0 > 1 })
            // Out of noise, towards the picture.
            let last = try #require(pictures.last)
            let toTheEnd = pictures.map { difference($0, last) }
            #expect(toTheEnd == toTheEnd.sorted(by: >))
        }
    }

    @Test func previewsKeepProportions() async throws {
        try await withSimulator {
            $0.previewSize = 80
        } _: { server in
            let socket = try await server.socket()
            _ = try await server.submit([
                "1": [
                    "class_type": "SimSampler",
                    "inputs": ["seed": "s", "steps": 1, "delay_ms": 0, "width": 160, "height": 64, "batch_size": 1],
                ],
                "2": ["class_type": "PreviewImage", "inputs": ["images": ["1", 0]]],
            ])
            let picture = try #require(try await socket.messagesOfRun().compactMap(\.picture).first)
            #expect(picture.width == 80 && picture.height == 32)
        }
    }

    @Test func previewsCanBeOff() async throws {
        try await withSimulator {
            $0.previewsByDefault = false
        } _: { server in
            let socket = try await server.socket()
            _ = try await server.submit(Graphs.textToImage(seed: 1))
            #expect(try await socket.messagesOfRun().allSatisfy { $0.bytes == nil })
            _ = try await server.submit(Graphs.textToImage(seed: 2), ["extra_data": ["preview_method": "auto"]])
            #expect(try await socket.messagesOfRun().contains { $0.bytes != nil })
        }
    }

    @Test func picturesFollowSeedAndText() async throws {
        try await withSimulator { server in
            func picture(_ graph: JSON) async throws -> Picture {
                let socket = try await server.socket("p")
                let id = try await server.submit(graph, client: "p")
                try await socket.messagesOfRun()
                try await socket.close()
                let item = try #require(try await server.history(id)?["outputs"]?["9"]?["images"]?[0])
                let file = try await server.get("/view?filename=\(item["filename"]?.string ?? "")&type=output")
                return try Picture.decode(file.body)
            }
            let one = try await picture(Graphs.textToImage(seed: 1)), two = try await picture(Graphs.textToImage(seed: 2))
            let again = try await picture(Graphs.textToImage(seed: 1)),
                other = try await picture(Graphs.textToImage(seed: 1, text: "a town"))
            #expect(one.pixels == again.pixels)
            #expect(difference(one, two) > 5 && difference(one, other) > 5)
            #expect(Set(one.pixels).count > 50)  // a picture, not a surface
        }
    }

    @Test func savedPicturesCarryTheGraph() async throws {
        try await withSimulator { server in
            let graph = Graphs.textToImage(seed: .number(JSONNumber(literal: "18446744073709551615")), text: "ein See – früh")
            let socket = try await server.socket()
            let id = try await server.submit(graph, ["extra_data": ["extra_pnginfo": ["workflow": ["id": "w"], "note": "ü"]]])
            let executed = try await socket.message("executed")
            let name = try #require(executed["output"]?["images"]?[0]?["filename"]?.string)
            let file = try await server.get("/view?filename=\(name)")
            let texts = PNG.texts(of: file.body)
            #expect(texts.map(\.key) == ["prompt", "workflow", "note"])
            #expect(try JSON(parsing: texts[0].text) == graph)
            #expect(texts[0].text.contains(#""seed": 18446744073709551615"#) && texts[0].text.contains(#"\u2013 fr\u00fch"#))
            #expect(texts[2].text == #""\u00fc""#)
            try await socket.messagesOfRun()
            #expect(try await server.history(id)?["prompt"]?[2] == graph)
        }
    }

    @Test func historyComesBetweenSuccessAndTheEnd() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            for color in 0..<20 {
                let id = try await server.submit(Graphs.trivial(color: color))
                try await socket.messagesOfRun()
                #expect(try await server.history(id)?["status"]?["completed"] == true)
            }
        }
    }

    @Test func anInterruptReachesWaitingSamplers() async throws {
        try await withSimulator {
            $0.stepDelay = .seconds(3600)
        } _: { server in
            let socket = try await server.socket()
            let id = try await server.submit(Graphs.textToImage())
            try await socket.messages { $0.type == "executing" && $0.data?["node"] == "3" }
            try await server.post("/interrupt", ["prompt_id": .string(id)])
            let interrupted = try await socket.message("execution_interrupted")
            #expect(interrupted["node_id"] == "3" && interrupted["node_type"] == "KSampler")
            try await socket.messagesOfRun()
            let history = try #require(try await server.history(id))
            #expect(history["status"]?["status_str"] == "error" && history["status"]?["completed"] == false)
        }
    }

    @Test func outputsOfEveryKindArePassedOnAndTheirFilesExist() async throws {
        try await withSimulator { server in
            let ui: JSON = [
                "images": [["filename": "clip.mp4", "subfolder": "video", "type": "output"]], "animated": [true],
                "audio": [["filename": "tone.wav", "subfolder": "", "type": "temp"]],
                "3d": [["filename": "m.glb", "subfolder": "", "type": "output"]],
                "text": ["hello", "ü"], "odd": [1.5, nil, [["x"]], ["a": ["b": 1]]],
            ]
            let socket = try await server.socket()
            let id = try await server.submit(["1": ["class_type": "SimOutput", "inputs": ["output": .string(ui.text), "bytes": 5000]]])
            #expect(try await socket.message("executed")["output"] == ui)
            try await socket.messagesOfRun()
            #expect(try await server.history(id)?["outputs"]?["1"] == ui)
            let video = try await server.get("/view?filename=clip.mp4&subfolder=video")
            #expect(video.header("content-type") == "video/mp4" && video.body.count == 5000)
            #expect(try await server.get("/view?filename=tone.wav&type=temp").body.starts(with: Array("RIFF".utf8)))
            #expect(try await server.get("/view?filename=m.glb").header("content-type") == "model/gltf-binary")
        }
    }

    @Test(arguments: [
        ("1", "not json", "SimOutput: 'output' must be"), ("2", #"{"a": [{"filename": "../x"}]}"#, "leads outside"),
        ("3", #"{"a": [{"filename": "x", "subfolder": "../.."}]}"#, "leads outside"),
    ])
    func oddOutputsFailTheNode(_ id: String, _ output: String, _ message: String) async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            _ = try await server.submit([id: ["class_type": "SimOutput", "inputs": ["output": .string(output), "bytes": 0]]])
            #expect(try await socket.message("execution_error")["exception_message"]?.string?.contains(message) == true)
        }
    }

    @Test func anUnknownLinkedInputFailsAtRunTime() async throws {
        try await withSimulator { server in
            var graph = Graphs.trivial().object ?? [:]
            graph["2"] = [
                "class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": "x", "more": ["1", 0], "ignored": 5],
            ]
            let socket = try await server.socket()
            _ = try await server.submit(.object(graph))
            let error = try await socket.message("execution_error")
            #expect(error["exception_type"] == "TypeError" && error["exception_message"]?.string?.contains("'more'") == true)
        }
    }

    @Test func imagesGoThroughLoadMaskScaleInvertAndLatents() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            let id = try await server.submit([
                "1": ["class_type": "LoadImage", "inputs": ["image": "example.png"]],
                "2": [
                    "class_type": "ImageScale",
                    "inputs": ["image": ["1", 0], "upscale_method": "bilinear", "width": 90, "height": 0, "crop": "disabled"],
                ],
                "3": ["class_type": "ImageInvert", "inputs": ["image": ["2", 0]]],
                "4": ["class_type": "CheckpointLoaderSimple", "inputs": ["ckpt_name": "sd15.safetensors"]],
                "5": ["class_type": "VAEEncode", "inputs": ["pixels": ["3", 0], "vae": ["4", 2]]],
                "6": ["class_type": "CLIPTextEncode", "inputs": ["text": "x", "clip": ["4", 1]]],
                "7": [
                    "class_type": "KSampler",
                    "inputs": [
                        "seed": 1, "steps": 2, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5, "model": ["4", 0],
                        "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0],
                    ],
                ],
                "8": ["class_type": "VAEDecode", "inputs": ["samples": ["7", 0], "vae": ["4", 2]]],
                "9": ["class_type": "SaveImage", "inputs": ["images": ["8", 0], "filename_prefix": "%width%x%height%/%batch_num%"]],
                "10": ["class_type": "PreviewAny", "inputs": ["source": ["1", 1]]],
            ])
            try await socket.messagesOfRun()
            let outputs = try await server.history(id)?["outputs"]
            #expect(outputs?["9"]?["images"]?[0] == ["filename": "0_00001_.png", "subfolder": "90x60", "type": "output"])
            let picture = try Picture.decode(try await server.get("/view?filename=0_00001_.png&subfolder=90x60").body)
            #expect(picture.width == 90 && picture.height == 60)
            #expect(outputs?["10"]?["text"]?[0]?.string?.hasPrefix("tensor([[[[0.0000, 0.0000, 0.0000]") == true)
        }
    }

    @Test func animationsAreOneFile() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            _ = try await server.submit([
                "1": [
                    "class_type": "SimSampler",
                    "inputs": ["seed": "s", "steps": 1, "delay_ms": 0, "width": 16, "height": 8, "batch_size": 3],
                ],
                "2": [
                    "class_type": "SaveAnimatedWEBP",
                    "inputs": [
                        "images": ["1", 0], "filename_prefix": "a", "fps": 10, "lossless": true, "quality": 80, "method": "default",
                    ],
                ],
            ])
            let output = try await socket.message("executed")["output"]
            #expect(output == ["images": [["filename": "a_00001_.webp", "subfolder": "", "type": "output"]], "animated": [true]])
            let file = try await server.get("/view?filename=a_00001_.webp")
            #expect(file.header("content-type") == "image/webp")
            let text = String(decoding: file.body, as: Unicode.ASCII.self)
            #expect(text.ranges(of: "ANMF").count == 3 && text.contains("WEBPVP8X"))
        }
    }

    @Test func batchesSaveInOneGo() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            for (color, first) in [(1, 1), (2, 4)] {
                _ = try await server.submit([
                    "1": ["class_type": "EmptyImage", "inputs": ["width": 8, "height": 8, "batch_size": 3, "color": JSON(color)]],
                    "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": "b"]],
                ])
                let names = try await socket.message("executed")["output"]?["images"]?.array?.compactMap { $0["filename"]?.string }
                #expect(names == (first..<first + 3).map { "b_0000\($0)_.png" })
                try await socket.messagesOfRun()
            }
        }
    }

    @Test func savingOutsideOfTheFolderFails() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            _ = try await server.submit(Graphs.trivial(prefix: "../../x"))
            #expect(try await socket.message("execution_error")["exception_message"]?.string?.contains("not allowed") == true)
        }
    }

    @Test func aSavedTextIsAFileToo() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            _ = try await server.submit([
                "1": ["class_type": "PrimitiveStringMultiline", "inputs": ["value": "one ☃"]],
                "2": ["class_type": "SaveText", "inputs": ["text": ["1", 0], "filename_prefix": "texts/t", "format": "md"]],
            ])
            let output = try await socket.message("executed")["output"]
            #expect(output == ["text": ["one ☃"], "files": [["filename": "t_00001.md", "subfolder": "texts", "type": "output"]]])
            let file = try await server.request(.GET, "/view?filename=t_00001.md&subfolder=texts")
            #expect(file.body == Array("one ☃".utf8) && file.header("content-type") == "text/markdown")
            #expect(file.header("x-content-type-options") == "nosniff")
        }
    }

    @Test func theseAreNotInOlderVersions() async throws {
        try await withSimulator {
            $0.compatibility = .v0_25_0
        } _: { server in
            let info = try await server.request(.GET, "/object_info").json
            #expect(info["SaveText"] == nil && info["PrimitiveStringMultiline"] != nil && info["SaveImage"]?["output"]?.array?.isEmpty == true)
            #expect(try await server.request(.POST, "/api/jobs/x/cancel").status == 405)
        }
    }

    @Test func progressIsThrottledWithoutPreviewsSince025() async throws {
        for (compatibility, expected) in [(ComfySimulator.Compatibility.v0_25_0, 1), (.v0_33_0, 1), (.v0_3_64, 30)] {
            try await withSimulator {
                $0.compatibility = compatibility
            } _: { server in
                let socket = try await server.socket()
                _ = try await server.submit([
                    "1": ["class_type": "EmptyImage", "inputs": ["width": 8, "height": 8, "batch_size": 1, "color": 0]],
                    "2": ["class_type": "SimRaise", "inputs": ["image": ["1", 0], "steps": 30, "message": "m"]],
                    "3": ["class_type": "PreviewImage", "inputs": ["images": ["2", 0]]],
                ])
                let count = try await socket.messagesOfRun().count { $0.type == "progress" }
                // On a machine that needs more than 100 ms for thirty reports, some come through.
                #expect(compatibility >= .v0_25_0 ? (expected..<30).contains(count) : count == expected)
            }
        }
    }

    @Test func freeMemoryDropsTheCache() async throws {
        try await withSimulator { server in
            let socket = try await server.socket()
            func cached() async throws -> JSON? {
                _ = try await server.submit(Graphs.trivial())
                return try await socket.messagesOfRun().first { $0.type == "execution_cached" }?.data?["nodes"]
            }
            #expect(try await cached() == [])
            #expect(try await cached() == ["1", "2"])
            try await server.post("/free", ["free_memory": true])
            #expect(try await cached() == [])
        }
    }

    @Test func aChangedFileIsLoadedAgain() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        try await withSimulator {
            $0.directory = path
        } _: { server in
            let graph: JSON = [
                "1": ["class_type": "LoadImage", "inputs": ["image": "a.png"]],
                "2": ["class_type": "PreviewImage", "inputs": ["images": ["1", 0]]],
            ]
            let socket = try await server.socket()
            for (color, expected) in [(1, []), (1, ["1", "2"]), (2, [])] as [(Int, [String])] {
                try Folders.write(Picture(width: 4, height: 4, color: color).png(), to: path + "/input/a.png")
                _ = try await server.submit(graph)
                let cached = try await socket.messagesOfRun().first { $0.type == "execution_cached" }?.data?["nodes"]
                #expect(cached == .array(expected.map(JSON.string)))
            }
        }
    }

    /// Mean distance per sample, 0 to 255.
    private func difference(_ left: Picture, _ right: Picture) -> Double {
        guard left.pixels.count == right.pixels.count else { return 255 }
        return Double(zip(left.pixels, right.pixels).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }) / Double(left.pixels.count)
    }
}
