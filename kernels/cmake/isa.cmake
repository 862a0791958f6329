# Vector sources (<op>_vec.cpp) are compiled once per instruction set. HILNAS_ISA names the variant (it
# becomes the function suffix and the namespace), HILNAS_WIDTH is the number of float lanes.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(HILNAS_ISAS avx2 avx512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(HILNAS_ISAS neon)
else()
  set(HILNAS_ISAS)
endif()

set(HILNAS_WIDTH_avx2 8)
set(HILNAS_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(HILNAS_WIDTH_avx512 16)
set(HILNAS_FLAGS_avx512 -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mf16c)
set(HILNAS_WIDTH_neon 4)
set(HILNAS_FLAGS_neon)

# Every file sees the same list of variants, or declarations would differ.
foreach(isa IN LISTS HILNAS_ISAS)
  string(TOUPPER ${isa} upper)
  add_compile_definitions(HILNAS_HAS_${upper}=1)
endforeach()

# hilnas_add_vector_sources(<target> <sources...>): hands every variant's objects to what links <target>.
function(hilnas_add_vector_sources target)
  foreach(isa IN LISTS HILNAS_ISAS)
    add_library(${target}_${isa} OBJECT ${ARGN})
    target_include_directories(${target}_${isa} PRIVATE ${CMAKE_SOURCE_DIR})
    target_compile_definitions(${target}_${isa} PRIVATE HILNAS_ISA=${isa} HILNAS_WIDTH=${HILNAS_WIDTH_${isa}})
    # fp-contract: the multiply-adds below are written a * b + c. psabi: vectors never cross a file.
    target_compile_options(${target}_${isa} PRIVATE -O3 -ffp-contract=fast -Wall -Wextra -Wno-psabi
                                                    -Wno-maybe-uninitialized
                                                    ${HILNAS_FLAGS_${isa}})
    # INTERFACE: objects of an object library do not travel through a second one.
    target_sources(${target} INTERFACE $<TARGET_OBJECTS:${target}_${isa}>)
  endforeach()
endfunction()
