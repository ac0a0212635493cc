// swift-tools-version: 6.1
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

let orderedCollections: Target.Dependency = .product(name: "OrderedCollections", package: "swift-collections")

let package = Package(
    name: "comfy-bridge",
    products: [
        .executable(name: "comfy-bridge", targets: ["comfy-bridge"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0", traits: []),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        // For the load generator only.
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", exact: "0.2.0"),
    ],
    targets: [
        // libmicrohttpd and the image codecs of the simulator, as Debian packages them.
        .systemLibrary(name: "CMicroHTTPD", pkgConfig: "libmicrohttpd", providers: [.apt(["libmicrohttpd-dev"])]),
        .systemLibrary(name: "CImageCodecs", pkgConfig: "libturbojpeg libpng zlib", providers: [.apt(["libturbojpeg0-dev", "libpng-dev", "zlib1g-dev"])]),

        // What of libmicrohttpd's behaviour only a function in place of its own can change.
        .target(name: "CMicroHTTPDOverrides", dependencies: ["CMicroHTTPD"]),
        // Keeps 34 MB that nothing reads out of the static binary.
        .target(name: "CWithoutLocaleData"),
        // What the simulator writes into previews and the load generator reads.
        .target(name: "PreviewStamp", swiftSettings: strict),

        .target(name: "OrderedJSON", dependencies: [orderedCollections], swiftSettings: strict),
        // What people read of durations, errors and foreign texts.
        .target(name: "Wording", swiftSettings: strict),
        .target(
            name: "MicroHTTP",
            dependencies: [
                "CMicroHTTPD", "CMicroHTTPDOverrides",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "ComfyUI",
            dependencies: [
                "OrderedJSON", "Wording", orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOFoundationEssentialsCompat", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        // The rooms of the bridge (docs/architecture.md): each knows only those that it names here.
        .target(name: "Workflow", dependencies: ["OrderedJSON", "Wording", orderedCollections], swiftSettings: strict),
        .target(
            name: "Jobs",
            dependencies: [
                "OrderedJSON", "Wording", "Workflow", orderedCollections,
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "Store",
            dependencies: [
                "Jobs", "OrderedJSON", "Wording", "Workflow", orderedCollections,
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "Workers",
            dependencies: [
                "ComfyUI", "Jobs", "OrderedJSON", "Wording", "Workflow", orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "API",
            dependencies: [
                "ComfyUI", "Jobs", "MicroHTTP", "OrderedJSON", "Playground", "Wording", "Workers", "Workflow", orderedCollections,
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "Bridge",
            dependencies: [
                "API", "ComfyUI", "Jobs", "MicroHTTP", "OrderedJSON", "Store", "Wording", "Workers", "Workflow", orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .target(
            name: "Simulator",
            dependencies: [
                "CImageCodecs", "OrderedJSON", "PreviewStamp", orderedCollections,
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            resources: [.embedInCode("Resources/object_info.json")],
            swiftSettings: strict
        ),
        // The page at / and openapi.yaml (a symbolic link to the one at the top), inside the binary.
        .target(
            name: "Playground",
            resources: [
                .embedInCode("index.html"), .embedInCode("app.js"), .embedInCode("style.css"), .embedInCode("openapi.yaml"),
            ],
            swiftSettings: strict
        ),
        .executableTarget(
            name: "comfy-bridge",
            dependencies: [
                "Bridge", "ComfyUI", "CWithoutLocaleData", "PreviewStamp", "Simulator", "Wording",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),

        .executableTarget(
            name: "comfy-bridge-load",
            dependencies: [
                "OrderedJSON", "PreviewStamp", orderedCollections,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            path: "Benchmarks/LoadGenerator",
            swiftSettings: strict
        ),

        .testTarget(name: "OrderedJSONTests", dependencies: ["OrderedJSON", orderedCollections], swiftSettings: strict),
        .testTarget(
            name: "MicroHTTPTests",
            dependencies: [
                "MicroHTTP",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "ServiceLifecycleTestKit", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "ComfyUITests",
            dependencies: [
                "ComfyUI", "OrderedJSON", orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            resources: [.copy("Recordings")],
            swiftSettings: strict
        ),
        .testTarget(name: "LoadGeneratorTests", dependencies: ["comfy-bridge-load", "PreviewStamp"], swiftSettings: strict),
        .testTarget(
            name: "SimulatorTests",
            dependencies: [
                "OrderedJSON", "Simulator", orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        // What the tests of several rooms need.
        .target(
            name: "TestSupport",
            dependencies: [
                "API", "Jobs", "MicroHTTP", "OrderedJSON", "Store", "Workers", "Workflow", orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/TestSupport",
            swiftSettings: strict
        ),
        .testTarget(name: "WorkflowTests", dependencies: ["OrderedJSON", "Workflow", orderedCollections], swiftSettings: strict),
        .testTarget(
            name: "JobsTests",
            dependencies: ["Jobs", "OrderedJSON", "TestSupport", "Workflow", orderedCollections],
            swiftSettings: strict
        ),
        .testTarget(
            name: "StoreTests",
            dependencies: [
                "Jobs", "OrderedJSON", "Store", "TestSupport", "Workflow", orderedCollections,
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "WorkersTests",
            dependencies: [
                "ComfyUI", "Jobs", "OrderedJSON", "Store", "TestSupport", "Wording", "Workers", "Workflow", orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "InMemoryLogging", package: "swift-log"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "APITests",
            dependencies: [
                "API", "Bridge", "Jobs", "MicroHTTP", "OrderedJSON", "TestSupport", "Workers", "Workflow", orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "ServiceLifecycleTestKit", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "BridgeTests",
            dependencies: [
                "API", "Bridge", "ComfyUI", "Jobs", "MicroHTTP", "OrderedJSON", "Simulator", "Store", "TestSupport", "Wording", "Workers", "Workflow",
                orderedCollections,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "InMemoryLogging", package: "swift-log"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycleTestKit", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict
        ),
    ]
)
