import ComfyUI
import OrderedCollections
import OrderedJSON
import Testing

/// What nodes of ComfyUI and of packs return as their `ui` result.
@Suite struct NodeResultTests {
    @Test(
        "Files are found wherever a node names them",
        arguments: [
            // ComfyUI's own.
            (#"{"images": [{"filename": "a.png", "subfolder": "b/c", "type": "temp"}], "animated": [true]}"#, ["images temp/b/c/a.png"], #"{}"#),
            (#"{"3d": [{"filename": "a.glb", "subfolder": "mesh", "type": "output"}]}"#, ["3d output/mesh/a.glb"], #"{}"#),
            (#"{"latents": [{"filename": "a.latent", "subfolder": "", "type": "output"}]}"#, ["latents output//a.latent"], #"{}"#),
            (#"{"text": ["whole"], "files": [{"filename": "a.md", "subfolder": "", "type": "output"}]}"#, ["text 0 whole", "files output//a.md"], #"{}"#),
            (#"{"result": ["3d/out_00001.glb", null, []]}"#, ["result output/3d/out_00001.glb|temp/3d/out_00001.glb"], #"{"result":["3d/out_00001.glb",null,[]]}"#),
            (
                #"{"result": ["preview3d_advanced_ab.glb", {}, []]}"#, ["result temp//preview3d_advanced_ab.glb|output//preview3d_advanced_ab.glb"],
                #"{"result":["preview3d_advanced_ab.glb",{},[]]}"#
            ),
            (#"{"result": ["a\\b.ply", null]}"#, ["result output/a/b.ply|temp/a/b.ply"], #"{"result":["a\\b.ply",null]}"#),
            // Of packs.
            (
                #"{"gifs": [{"filename": "v.mp4", "subfolder": "", "type": "output", "format": "video/h264-mp4", "fullpath": "/srv/v.mp4"}]}"#,
                ["gifs output//v.mp4"], #"{}"#
            ),
            (#"{"mesh": [{"filename": "a.obj", "type": "output"}]}"#, ["mesh output//a.obj"], #"{}"#),
            (#"{"video": {"filename": "v.webm"}}"#, ["video output//v.webm"], #"{}"#),
            (#"{"a_images": [[{"filename": "a.png"}, {"filename": "b.png"}]]}"#, ["a_images output//a.png", "a_images output//b.png"], #"{}"#),
            (#"{"data": [{"preview": {"filename": "a.png"}, "n": 1}]}"#, ["data output//a.png"], #"{"data":[{"preview":{"filename":"a.png"},"n":1}]}"#),
            (#"{"images": [{"filename": "sub/a.png", "subfolder": ""}]}"#, ["images output/sub/a.png|output//sub/a.png"], #"{}"#),
            (#"{"video": ["v.mp4", "clips"]}"#, ["video output/clips/v.mp4|temp/clips/v.mp4"], #"{"video":["v.mp4","clips"]}"#),
            (#"{"audio": ["v.wav"]}"#, ["audio output//v.wav|temp//v.wav"], #"{"audio":["v.wav"]}"#),
            // None.
            (#"{"result": ["12 by 5"]}"#, [], #"{"result":["12 by 5"]}"#),
            (
                #"{"result": ["/srv/out/a.glb"], "video": ["../a.mp4"], "audio": ["C:/a.wav"], "mesh": ["a//b.glb"]}"#, [],
                #"{"result":["/srv/out/a.glb"],"video":["../a.mp4"],"audio":["C:/a.wav"],"mesh":["a//b.glb"]}"#
            ),
            (#"{"text": ["a.glb"], "name": ["a.glb"]}"#, ["text 0 a.glb"], #"{"name":["a.glb"]}"#),
            (#"{"value": [1, null, true], "nested": [[], {}], "n": 5}"#, [], #"{"value":[1,null,true],"nested":[[],{}],"n":5}"#),
            (#"{"images": [{"filename": ""}, {"filename": 5}]}"#, [], #"{"images":[{"filename":""},{"filename":5}]}"#),
        ] as [(String, [String], String)])
    func shapes(_ text: String, _ items: [String], _ others: String) throws {
        let result = NodeResult(try #require(try JSON(parsing: text).object))
        #expect(result.items.map(\.words) == items)
        #expect(JSON.object(result.others).text == others)
    }

    /// Hostile depth: what is looked into is bounded.
    @Test func depth() throws {
        let text = #"{"a": "# + String(repeating: "[", count: 200) + #"{"filename": "a.png"}"# + String(repeating: "]", count: 200) + "}"
        let result = NodeResult(try #require(try JSON(parsing: text).object))
        #expect(result.items.isEmpty && result.others["a"] != nil)
    }
}

extension NodeResult.Item {
    fileprivate var words: String {
        switch content {
        case .file(let places): "\(key) " + places.map { "\($0.type)/\($0.subfolder)/\($0.filename)" }.joined(separator: "|")
        case .text(let text, let index): "\(key) \(index) \(text)"
        }
    }
}
