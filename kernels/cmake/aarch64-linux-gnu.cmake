# Cross build for aarch64 glibc: a phone runs the result with the bundle's own loader, ctest runs it under qemu.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(HILNAS_CROSS_CXX "aarch64-linux-gnu-g++" CACHE STRING "aarch64 C++17 compiler")
set(HILNAS_EMULATOR "qemu-aarch64-static;-L;/usr/aarch64-linux-gnu;-E;LD_LIBRARY_PATH=${EXECUTORCH_ROOT}/lib"
    CACHE STRING "Runs the tests on a machine that is no aarch64; QEMU_CPU chooses the CPU")
# try_compile configures a project of its own, which needs the same values
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES HILNAS_CROSS_CXX HILNAS_EMULATOR EXECUTORCH_ROOT)

set(CMAKE_CXX_COMPILER "${HILNAS_CROSS_CXX}")
set(CMAKE_CROSSCOMPILING_EMULATOR "${HILNAS_EMULATOR}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
