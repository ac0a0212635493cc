import OrderedCollections
import OrderedJSON
import Testing

@testable import Workflow

@Suite struct FileUseTests {
    /// One letter with a million marks: to compare it as a `String` takes longer than a test may.
    private let endlessLetter = "a" + String(repeating: "\u{315}\u{300}", count: 500_000)

    /// As ComfyUI 0.33.0 describes them, cut to what matters here, and classes as node packs have them.
    private static let objectInfo: JSON = [
        "LoadImage": ["input": ["required": ["image": [["a.png"], ["image_upload": true]]]], "output": ["IMAGE", "MASK"]],
        "LoadImageMask": ["input": ["required": ["image": [["a.png"], ["image_upload": true]], "channel": [["alpha", "red"]]]], "output": ["MASK"]],
        "LoadImageOutput": ["input": ["required": ["image": ["COMBO", ["image_upload": true, "image_folder": "output", "remote": ["route": "/internal/files/output"]]]]], "output": ["IMAGE"]],
        "LoadLatent": ["input": ["required": ["latent": [[]]]], "output": ["LATENT"]],
        "LoadAudio": ["input": ["required": ["audio": ["COMBO", ["multiselect": false, "options": [], "audio_upload": true]]]], "output": ["AUDIO"]],
        "LoadVideo": ["input": ["required": ["file": ["COMBO", ["options": [], "video_upload": true]]]], "output": ["VIDEO"]],
        "Load3D": ["input": ["required": ["model_file": ["COMBO", ["options": ["none"], "file_upload": true]], "image": ["LOAD_3D", [:]]]], "output": ["IMAGE"]],
        "WebcamCapture": ["input": ["required": ["image": ["WEBCAM", [:]]]], "output": ["IMAGE"]],
        "RecordAudio": ["input": ["required": ["audio": ["AUDIO_RECORD", [:]]]], "output": ["AUDIO"]],
        "Painter": ["input": ["required": ["mask": ["STRING", ["widgetType": "PAINTER", "image_upload": true]]]], "output": ["IMAGE"]],
        "GeminiInputFiles": ["input": ["required": ["file": ["COMBO", ["options": []]]]], "output": ["GEMINI_INPUT_FILES"]],
        "LoadImageDataSetFromFolder": ["input": ["required": ["folder": ["COMBO", ["options": ["faces"]]]]], "output": ["IMAGE"]],
        "LoadTrainingDataset": ["input": ["required": ["folder_name": ["COMBO", ["options": ["run1"]]]]], "output": ["LATENT"]],
        "KSampler": ["input": ["required": ["sampler_name": [["euler", "dpm"]], "ratio": ["COMBO", ["options": ["1:1"]]]]], "output": ["LATENT"]],
        "OperatorsList": ["input": ["required": ["file": [["/mnt/pool/a.png", "b.png"]]]], "output": ["IMAGE"]],
        "TextEncode": ["input": ["required": ["text": ["STRING", ["multiline": true]], "strength": ["FLOAT", [:]], "any": ["*", [:]]]], "output": ["CONDITIONING"]],
        "PrimitiveString": ["input": ["required": ["value": ["STRING", [:]]]], "output": ["STRING"]],
        "PackLoader": [
            "input": ["required": ["video": ["STRING", ["vhs_path_extensions": ["mp4"]]], "image_path": ["STRING", [:]], "directory": ["STRING", [:]], "imageURL": ["STRING", [:]]]],
            "output": ["IMAGE"],
        ],
        "Dynamic": [
            "input": [
                "required": [
                    "mode": ["COMFY_DYNAMICCOMBO_V3", ["options": [["key": "file", "inputs": ["required": ["source": [["a.png"], ["image_upload": true]]]]]]]],
                    "many": ["COMFY_AUTOGROW_V3", ["template": ["input": ["required": ["image": [["a.png"], ["image_upload": true]]]], "prefix": "image"]]],
                ]
            ], "output": ["IMAGE"],
        ],
        "SaveImage": ["input": ["required": ["images": ["IMAGE"], "filename_prefix": ["STRING", ["default": "ComfyUI"]]]], "output": [], "output_node": true],
        "Preview3D": ["input": ["required": ["model_file": ["STRING,FILE_3D", [:]]]], "output": [], "output_node": true],
        "SaveLoRA": ["input": ["required": ["lora": ["LORA_MODEL"], "prefix": ["STRING", [:]]]], "output": [], "output_node": true],
        "SaveImageDataSetToFolder": ["input": ["required": ["images": ["IMAGE"], "folder_name": ["STRING", [:]]]], "output": [], "output_node": true],
        "AddTextPrefix": ["input": ["required": ["prefix": ["STRING", [:]]]], "output": ["STRING"]],
        "Sink": ["input": ["required": [:], "optional": ["any": ["*"]]], "output": [], "output_node": true],
    ]
    private static let catalog = NodeCatalog(objectInfo: objectInfo.object!)

    /// One node of the class with these inputs, on which an output depends.
    private func reasons(_ classType: String, _ inputs: JSON, rules: FileRules = FileRules()) throws -> [String] {
        let catalog = NodeCatalog(objectInfo: Self.objectInfo.object!, fileRules: rules)
        let workflow = try Workflow(checking: ["1": ["class_type": .string(classType), "inputs": inputs], "2": ["class_type": "Sink", "inputs": ["any": ["1", 0]]]])
        return catalog.faults(in: workflow).filter { ["unsafe_path", "isolated_output"].contains($0.reason) }.map { "\($0.field ?? "-") \($0.reason)" }
    }

    @Test("Names that lead elsewhere", arguments: [
        "/etc/x.png", "//host/share/x.png", "\\\\host\\share\\x.png", "\\x.png", "..", "../x.png", "..\\x.png", "a/../../x.png", "a\\..\\..\\x.png", "a/..", "./../x.png",
        "C:\\x.png", "c:/x.png", "C:x.png", "/etc/x.png [input]", "../output/x.png [output]", "../../x.png[temp]", "x.png\0", "a\0/../b", " /etc/x.png", "\"/etc/x.png\"",
        "'/etc/x.png'", "\n../x.png", "~/x.png", "~root/.ssh/id_rsa", "file:///etc/passwd", "FILE:/etc/passwd", "a/.. /x.png", "a/.../x.png", "... /x.png", "/",
    ])
    func leaves(_ name: String) {
        #expect(name.leavesItsFolder)
    }

    @Test("Names that do not", arguments: [
        "", "x.png", "faces/anna.png", "faces\\anna.png", "a..b.png", "..a.png", "x.png [output]", "x (1).png", "é/ü.png", "~x.png", "https://example.com/x.png", "1:1", "16:9",
        "%date:yyyy-MM-dd%/ComfyUI", "wait…", "wait.../x", ".hidden", "./x.png", "euler", "a b/c d.png", "x/.hidden",
    ])
    func stays(_ name: String) {
        #expect(!name.leavesItsFolder)
    }

    @Test("Every kind of input that names a file is confined", arguments: [
        ("LoadImage", "image"), ("LoadImageMask", "image"), ("LoadImageOutput", "image"), ("LoadLatent", "latent"), ("LoadAudio", "audio"), ("LoadVideo", "file"), ("Load3D", "model_file"),
        ("WebcamCapture", "image"), ("RecordAudio", "audio"), ("Painter", "mask"), ("GeminiInputFiles", "file"), ("LoadImageDataSetFromFolder", "folder"),
        ("LoadTrainingDataset", "folder_name"), ("KSampler", "sampler_name"), ("PackLoader", "video"), ("PackLoader", "image_path"), ("PackLoader", "directory"), ("PackLoader", "imageURL"),
        ("Dynamic", "mode.source"), ("Dynamic", "many.image0"), ("SaveImage", "filename_prefix"), ("SaveLoRA", "prefix"), ("Preview3D", "model_file"), ("SaveImageDataSetToFolder", "folder_name"),
        ("LoadImage", "undeclared_path"),
    ])
    func confined(_ classType: String, _ input: String) throws {
        let expected = ["\(input) unsafe_path"]
        for name in ["/etc/x.png", "../x.png", "C:\\x.png", "x.png\0"] {
            let name = JSON.string(name)
            // ComfyUI takes the value out of the first; what the others become depends on the class.
            for value: JSON in [
                name, ["__value__": name], ["__value__": name, "__type": "core/ASSET", "info": ["id": "a"]], ["__value__": ["__value__": name]], ["__value__": [name]],
                ["__value__": ["x.png", ["__value__": name]]], [name], ["a": ["b": name]],
            ] {
                #expect(try reasons(classType, [input: value]) == expected, "\(value.text)")
            }
        }
        #expect(try reasons(classType, [input: "faces/x.png"]) == [])
        #expect(try reasons(classType, [input: ["__value__": "faces/x.png"]]) == [])
    }

    @Test func filesInsideAnObjectAreConfined() throws {
        let capture: JSON = ["image": "threed/a.png [temp]", "mask": "threed/b.png [temp]", "normal": "/etc/x.png", "recording": "", "camera_info": ["zoom": 1]]
        #expect(try reasons("Load3D", ["model_file": "none", "image": capture]) == ["image unsafe_path"])
        #expect(try reasons("Load3D", ["model_file": "none", "image": ["image": "a.png [temp]", "recording": ""]]) == [])
    }

    @Test("What is no name of a file is left alone", arguments: [
        ("TextEncode", ["text": "/imagine ../a {b}", "strength": 1, "any": "/x"]), ("AddTextPrefix", ["prefix": "/imagine "]), ("KSampler", ["sampler_name": "euler", "ratio": "1:1"]),
        // ComfyUI itself offers it.
        ("OperatorsList", ["file": "/mnt/pool/a.png"]),
        // The name may be made elsewhere; where it leads is ComfyUI's to judge.
        ("SaveImage", ["filename_prefix": ["3", 0]]),
    ] as [(String, JSON)])
    func leftAlone(_ classType: String, _ inputs: JSON) throws {
        #expect(try reasons(classType, inputs) == [])
    }

    @Test func whatIsNotOfferedIsConfined() throws {
        #expect(try reasons("OperatorsList", ["file": "/mnt/pool/b.png"]) == ["file unsafe_path"])
    }

    /// Names that ComfyUI offers are compared with what callers send, by their bytes.
    @Test(.timeLimit(.minutes(5))) func marksCostTheirBytes() throws {
        let (offered, other) = ("/mnt/\(endlessLetter).png", "/mnt/\(endlessLetter).pnh")
        let definition: JSON = [[.string(offered), .string("b.png"), .string("/mnt/\u{E9}.png")]]
        let use = try #require(FileUse(of: "file", in: "OperatorsList", isOutput: false, definition))
        #expect(use == .choice(offered: [Name(offered), "/mnt/\u{E9}.png"]))
        func isRefused(_ name: String, by rules: FileRules = FileRules()) -> Bool { rules.breach(of: use, by: .string(name), "file", of: "OperatorsList") != nil }
        #expect(!isRefused(offered) && isRefused(other) && !isRefused(endlessLetter))
        // The same text for Swift, another file.
        #expect(!isRefused("/mnt/\u{E9}.png") && isRefused("/mnt/e\u{301}.png"))
        let strict = FileRules(folders: ["/mnt/\(endlessLetter)"], isolatesOutputs: true)
        #expect(!isRefused(offered, by: strict) && isRefused(other, by: strict) && !isRefused("/mnt/\(endlessLetter)/x.png", by: strict))
        #expect(isRefused("\(endlessLetter) [output]", by: strict))
    }

    // MARK: Ways around

    @Test("A loader is found behind every form of link", arguments: [
        #"["1", 0]"#, #"{"__value__": ["1", 0]}"#, #"{"__value__": {"__value__": ["1", 0]}}"#, #"["1", true]"#, #"["1", 0.0]"#, #"["1", 0.5]"#, #"["1", -1]"#, #"["1", 1e0]"#,
    ])
    func linkForms(_ link: String) throws {
        for input in ["any", "undeclared"] {
            let graph = #"{"1": {"class_type": "LoadImage", "inputs": {"image": "/etc/x.png"}}, "2": {"class_type": "Sink", "inputs": {"\#(input)": \#(link)}}}"#
            let faults = Self.catalog.faults(in: try Workflow(checking: JSON(parsing: graph)))
            #expect(faults.contains { $0.node == "1" && $0.reason == "unsafe_path" }, "\(link)")
        }
    }

    @Test("A name that another node makes cannot be checked", arguments: ["LoadImage image", "LoadLatent latent", "Painter mask", "Load3D model_file"])
    func linkedNames(_ place: String) throws {
        let parts = place.split(separator: " ").map(String.init)
        for (maker, value) in [("PrimitiveString", "x.png"), ("PrimitiveString", "/etc/x.png"), ("AddTextPrefix", "x")] {
            let workflow = try Workflow(checking: [
                "1": ["class_type": .string(parts[0]), "inputs": [parts[1]: ["3", 0]]], "2": ["class_type": "Sink", "inputs": ["any": ["1", 0]]],
                "3": ["class_type": .string(maker), "inputs": ["value": .string(value), "prefix": .string(value)]],
            ])
            #expect(Self.catalog.faults(in: workflow).contains { $0.field == parts[1] && $0.reason == "unsafe_path" })
        }
    }

    @Test func aClassThatComfyUIReplacesOpensNoGap() throws {
        let catalog = NodeCatalog(objectInfo: Self.objectInfo.object!, replaced: ["Old"])
        let workflow = try Workflow(checking: [
            "1": ["class_type": "LoadImage", "inputs": ["image": "/etc/x.png"]], "2": ["class_type": "Sink", "inputs": ["any": ["1", 0]]],
            "3": ["class_type": "Old", "inputs": ["image": "../x.png", "text": "a picture"]],
        ])
        #expect(catalog.faults(in: workflow).map { "\($0.node ?? "") \($0.field ?? "")" } == ["1 image", "3 image"])
    }

    /// As a worker checks whose ComfyUI does not tell what it has.
    @Test func withoutANodeListEveryTextStaysInItsFolder() throws {
        let workflow = try Workflow(checking: [
            "1": ["class_type": "LoadImage", "inputs": ["image": ["__value__": "/etc/x.png"]]], "2": ["class_type": "TextEncode", "inputs": ["text": "a picture, and/or two"]],
        ])
        let catalog = NodeCatalog(objectInfo: [:], replaced: workflow.classTypes)
        #expect(catalog.faults(in: workflow).map { "\($0.node ?? "") \($0.field ?? "") \($0.reason)" } == ["1 image unsafe_path"])
    }

    @Test func whatAnyComfyUICallsAFileIsOne() throws {
        let harmless = NodeCatalog(objectInfo: ["LoadImage": ["input": ["required": ["image": ["STRING"]]], "output": ["IMAGE"]], "Sink": Self.objectInfo["Sink"]!])
        let workflow = try Workflow(checking: ["1": ["class_type": "LoadImage", "inputs": ["image": "/etc/x.png"]], "2": ["class_type": "Sink", "inputs": ["any": ["1", 0]]]])
        for catalogs in [[harmless, Self.catalog], [Self.catalog, harmless]] {
            #expect(NodeCatalog(of: workflow, from: catalogs).faults(in: workflow).map(\.reason) == ["unsafe_path"])
        }
    }

    @Test func wrappedValuesAreSeenAsComfyUISeesThem() throws {
        let workflow = try Workflow(checking: [
            "1": ["class_type": "KSampler", "inputs": ["steps": ["__value__": 7], "list": ["__value__": [1, 2, 3]], "model": ["__value__": ["2", 1]]]],
            "2": ["class_type": "LoadImage", "inputs": ["image": ["__value__": ["__type": "core/ASSET", "info": ["id": "a"]]]]],
        ])
        #expect(workflow.nodes["1"]?.weight == 8)
        #expect(workflow.nodes["1"]?.links == [.init(input: "model", source: "2", output: 1)])
        #expect(Array(workflow.referencedAssets) == ["a"])
        #expect(String(decoding: try workflow.text(with: [.reference(id: "a"): "a.png"]), as: UTF8.self).hasSuffix(#""inputs":{"image":{"__value__":"a.png"}}}}"#))
        // With both it is a wrapper to ComfyUI.
        let both = try Workflow(checking: ["1": ["class_type": "LoadImage", "inputs": ["image": ["__type": "core/ASSET", "info": ["id": "a"], "__value__": "b.png"]]]])
        #expect(both.referencedAssets.isEmpty)
    }

    // MARK: Rules

    @Test("Outputs of others, by their names", arguments: [
        ("LoadImage", "image", "x.png [output]"), ("LoadImage", "image", "sub/x.png[output]"), ("LoadImage", "image", "x.png [temp]"), ("LoadLatent", "latent", "x.latent [output]"),
        ("LoadImageOutput", "image", "x.png [output] "), ("WebcamCapture", "image", "webcam/1.png [temp]"), ("Painter", "mask", "x.png [output]"), ("PackLoader", "directory", "output"),
        ("PackLoader", "image_path", "./output/x.png"), ("PackLoader", "image_path", "temp\\x.png"), ("LoadTrainingDataset", "folder_name", "run1"), ("Preview3D", "model_file", "3d/x.glb"), ("KSampler", "sampler_name", "x [temp]"),
    ])
    func isolation(_ classType: String, _ input: String, _ name: String) throws {
        for value: JSON in [.string(name), ["__value__": .string(name)]] {
            #expect(try reasons(classType, [input: value]) == [])
            #expect(try reasons(classType, [input: value], rules: FileRules(isolatesOutputs: true)) == ["\(input) isolated_output"])
        }
    }

    @Test("Isolated outputs hide nothing else", arguments: [
        ("LoadImage", "image", "x.png"), ("LoadImage", "image", "x.png [input]"), ("LoadImage", "image", "output/x.png"), ("SaveImage", "filename_prefix", "output/x"),
        ("PackLoader", "directory", "outputs"), ("Preview3D", "model_file", ""), ("PackLoader", "directory", "input/faces"), ("TextEncode", "text", "a picture [output]"),
    ])
    func isolationLeaves(_ classType: String, _ input: String, _ name: String) throws {
        #expect(try reasons(classType, [input: .string(name)], rules: FileRules(isolatesOutputs: true)) == [])
    }

    @Test func allowedFolders() throws {
        let rules = FileRules(folders: ["/data/pictures", "D:\\pool"])
        func isAllowed(_ name: String) throws -> Bool { try reasons("PackLoader", ["image_path": .string(name)], rules: rules).isEmpty }
        for name in ["/data/pictures", "/data/pictures/a.png", "/data/pictures/b/a.png", "D:\\pool\\a.png"] { #expect(try isAllowed(name)) }
        for name in ["/data/pictures2/a.png", "/data/a.png", "/data/pictures/../a.png", "/data/pictures/b/../../a.png", "D:\\pool\\..\\a.png", "/data/pictures/\0", "D:\\poolside"] {
            #expect(try !isAllowed(name))
        }
    }
}
