# SPDX-License-Identifier: MIT
# Every src/backend/cpu/*_simd.c is compiled once per instruction set, with ZS_ISA naming the
# variant; the dispatcher asks the machine which one to call. v2 is the plain build that every
# machine runs. ZS_HAVE_ISA_V3 and ZS_HAVE_ISA_V4 tell the dispatcher which others exist.
include(CheckCCompilerFlag)

set(ZSEM_EXTRA_OBJECTS)
set(ZSEM_ISA_V2_FLAGS)
set(ZSEM_ISA_V3_FLAGS -mavx2 -mfma -mf16c)
set(ZSEM_ISA_V4_FLAGS -mavx512f -mavx512vl -mavx512dq -mavx512bw -mavx2 -mfma)

set(ZSEM_ISAS v2)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  foreach(isa v3 v4)
    string(TOUPPER ${isa} ISA)
    string(JOIN " " flags ${ZSEM_ISA_${ISA}_FLAGS})
    check_c_compiler_flag("${flags}" ZSEM_COMPILER_HAS_${ISA})
    if(ZSEM_COMPILER_HAS_${ISA})
      list(APPEND ZSEM_ISAS ${isa})
      target_compile_definitions(zsem_objects PUBLIC ZS_HAVE_ISA_${ISA}=1)
    endif()
  endforeach()
endif()

file(GLOB ZSEM_SIMD CONFIGURE_DEPENDS src/backend/cpu/*_simd.c)
if(ZSEM_SIMD)
  foreach(isa ${ZSEM_ISAS})
    string(TOUPPER ${isa} ISA)
    add_library(zsem_simd_${isa} OBJECT ${ZSEM_SIMD})
    target_include_directories(zsem_simd_${isa} PRIVATE src)
    target_compile_definitions(zsem_simd_${isa} PRIVATE ZS_ISA=${isa})
    # Kernels are unusable unoptimised, also in debug and sanitizer builds. Nothing here may
    # change NaN or Inf: errno and trap bookkeeping is all that is given up.
    target_compile_options(zsem_simd_${isa} PRIVATE $<IF:$<CONFIG:Release>,-O3,-O2>
      -fno-math-errno -fno-trapping-math -ffp-contract=fast ${ZSEM_ISA_${ISA}_FLAGS})
    target_link_libraries(zsem_simd_${isa} PRIVATE zsem_flags PkgConfig::DEPS)
    list(APPEND ZSEM_EXTRA_OBJECTS $<TARGET_OBJECTS:zsem_simd_${isa}>)
  endforeach()
endif()
